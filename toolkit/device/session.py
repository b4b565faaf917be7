"""One session of a run: where it ends before the run does, and the adapter that it goes on with."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from toolkit.device.adapters import send_adapter
from toolkit.device.base import Device
from toolkit.device.layout import Deployed
from toolkit.errors import ToolkitError


@dataclass(frozen=True)
class Session:
    """What a session is asked for beside the run's settings; nothing of it is kept with the run.

    Attributes:
        until: It saves and ends after so many steps of the run; None: after all.
        take_adapter: An adapter .ptd or PEFT folder on this machine, which a resumed run goes on
            with in place of its own; what the optimizer remembers and the place in the data stay.
        take_at: The step after which it is taken; None: the saved one. A run that took the same
            adapter after this step (None: after any, as its last) and is further goes on as it is,
            so that a command whose answer was lost can be given again.

    Raises:
        ToolkitError: `take_at` is given without an adapter, or a number makes no sense.
    """

    until: int | None = None
    take_adapter: str | PathLike[str] | None = None
    take_at: int | None = None

    def __post_init__(self) -> None:
        if self.until is not None and self.until < 1:
            raise ToolkitError(f"a session cannot end after {self.until} steps", "Give 1 or more")
        if self.take_at is not None and (self.take_adapter is None or self.take_at < 0):
            raise ToolkitError(
                "the step to take an adapter at needs the adapter, and is 0 or more",
                "Give both, or neither",
            )

    def arguments(self, device: Device, bundle: Deployed, say: Callable[[str], None]) -> list[str]:
        """Send what is needed and return the trainer's arguments."""
        arguments = [] if self.until is None else ["--until", str(self.until)]
        if self.take_adapter is not None:
            path = send_adapter(device, Path(fspath(self.take_adapter)), bundle, say)
            arguments += ["--take-adapter", path]
        if self.take_at is not None:
            arguments += ["--take-at", str(self.take_at)]
        return arguments


WHOLE = Session()
"""A session that goes on to the run's end with the run's own adapter."""
