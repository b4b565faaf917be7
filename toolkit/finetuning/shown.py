"""What a fine-tuning tells whoever watches it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from toolkit.api.devices import Deployment, no_bars
from toolkit.api.preparing import DataSet
from toolkit.api.runs import TrainingRun
from toolkit.device.transfer import Progress

if TYPE_CHECKING:
    from toolkit.bundle.bundle import Bundle
    from toolkit.bundle.export import Progress as ExportProgress


class Shown:
    """Shows nothing; who shows something overrides what it shows."""

    def step(self, words: Sequence[str], reason: str, *, skipped: bool) -> None:
        """A step begins, or is skipped: the command it stands for, and why."""

    def exporting(self) -> "AbstractContextManager[ExportProgress | None]":
        """Return what yields the progress of an export."""
        return nullcontext(None)

    def exported(self, bundle: "Bundle") -> None:
        """The bundle is there."""

    @contextmanager
    def preparing(self) -> Iterator[Callable[[int, int], None] | None]:
        """Yield what is called with documents done and documents in all."""
        yield None

    def prepared(self, data: DataSet) -> None:
        """The data is there."""

    def bars(self, what: str) -> AbstractContextManager[Progress]:
        """Return what yields the progress of a transfer."""
        return no_bars(what)

    def sent(self, done: Deployment) -> None:
        """The device has bundle and data."""

    def takes(self, seconds: float) -> None:
        """A run that begins will take so long."""

    def watch(self, run: TrainingRun, steps: int, *, fresh: bool) -> None:
        """Watch a run until it ends, or leave it; `fresh`: what it shows first happens now."""
        run.wait()

    def say(self, line: str) -> None:
        """A line for people."""
