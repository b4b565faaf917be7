"""What every tracker is."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.tracking.points import Mark, Point


@dataclass(frozen=True)
class Tracked:
    """A run: its name on the device, its random id, and the settings that its trace names."""

    name: str
    id: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


class Tracker(ABC):
    """A place that shows the steps of runs while they come.

    Attributes:
        words: The flag of `toolkit train` that stands for it, and what it takes.
    """

    words: tuple[str, str]

    def of_run(self, number: int) -> "Tracker":
        """Return the tracker of the so many-th of several runs, from 1."""
        return self  # most have a place for every run

    @abstractmethod
    def place(self, name: str) -> str:
        """Get ready for a run of this name and return where it goes, for people."""

    def marks(self) -> list[Mark]:
        """Return the marks of all points that are there, in order of their steps.

        Raises:
            ToolkitError: Something else is there.
        """
        return []

    def begin(self, run: Tracked) -> None:  # noqa: B027 (most need not know)
        """Be told which run the points to come are of."""

    @abstractmethod
    def log(self, point: Point) -> None:
        """Add a point, or values to the last one if the step is the same."""

    @abstractmethod
    def take_back(self, step: int) -> None:
        """Forget what is there of later steps than this one."""

    def flush(self) -> None:  # noqa: B027 (not all hold something back)
        """Let others see what was added."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the place; a later point opens it again."""


def library(module: str, extra: str, flag: str) -> ModuleType:
    """Import a library that is an extra of this package.

    Raises:
        ToolkitError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ToolkitError(
            f"{flag} needs the library {extra}", f'Install it: pip install "toolkit[{extra}]"'
        ) from error
