"""Trackers as the flags of `toolkit train` name them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from toolkit.settings.declaration import Value

if TYPE_CHECKING:
    from toolkit.tracking.tracker import Tracker


def _csv(value: str) -> "Tracker":
    from toolkit.tracking.csv_file import CsvFile

    return CsvFile(value)


def _tensorboard(value: str) -> "Tracker":
    from toolkit.tracking.tensorboard import TensorBoard

    return TensorBoard(value)


def _wandb(value: str) -> "Tracker":
    from toolkit.tracking.wandb import Wandb

    return Wandb(value)


TRACKERS: dict[str, Callable[[str], "Tracker"]] = {
    "tensorboard": _tensorboard,
    "csv": _csv,
    "wandb": _wandb,
}


def trackers_of(given: Mapping[str, Value]) -> "list[Tracker]":
    """Return the trackers that values by flag name.

    Raises:
        ToolkitError: A library that one needs is not installed.
    """
    return [make(str(given[flag])) for flag, make in TRACKERS.items() if given.get(flag)]
