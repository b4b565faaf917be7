"""Following a run to its end: its records as they come, and what became of it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from toolkit.device.errors import DeviceLost
from toolkit.device.runs import Run, follow
from toolkit.device.same_run import identity_on_device
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.splitting.serving import Serving
    from toolkit.tracking.feed import Feed


class Watching:
    """Iterates over the records of a run's trace, None after every look at the device.

    `peak_bytes` and `seconds` are of the whole run, of all its parts: a resumed run's trace has
    several. `end` is the record that ends it, None before that.
    """

    def __init__(self, run: Run, *, began: bool = False, feed: "Feed | None" = None) -> None:
        """Follow `run` from where its trace was read to.

        Args:
            began: This side began the run; if the trainer refuses it, nothing of it is kept.
            feed: Given every record, too.
        """
        self.run = run
        self.feed = feed
        self.computer: Serving | None = None  # of a split run: what computes its upper layers
        self.peak_bytes = 0.0
        self.end: dict[str, Any] | None = None
        self._began = began
        self._ended = self._open = 0.0
        for record in run.history() if run.trace_offset else ():
            self._count(record)
        self._earlier, self.end = self.end, None

    @property
    def seconds(self) -> float:
        """Seconds of all parts; of one that was killed those of its steps."""
        return self._ended + self._open

    def __iter__(self) -> Iterator[dict[str, Any] | None]:
        """Yield until the run ends.

        Raises:
            ToolkitError: The trainer failed or died (the message is its own), or the connection
                broke, or a tracker cannot be used; then the run goes on.
        """
        run, computer = self.run, self.computer
        served = computer.serving(run.device, run.name) if computer else nullcontext()
        with self._going_on(), served, self._fed():
            for record in follow(self.run):
                if record is not None:
                    self._count(record)
                self._give(record)
                yield record
                if computer and computer.error:
                    raise computer.error
        if self.end is None and self._earlier is not None and self.run.exit_code() == 0:
            self.end = self._earlier  # resumed though nothing was left to do, which adds nothing
        if self.end is None or self.end.get("status") == "failed":
            self._fail()

    def request_stop(self) -> None:
        """Ask the trainer to save and end before or after the current step.

        Raises:
            ToolkitError: The connection broke; the run goes on.
        """
        with self._going_on():
            self.run.request_stop()

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except DeviceLost as lost:
            remedy = f"The run goes on; {how_to_attach(self.run, 'when it is back')}"
            raise ToolkitError(lost.cause, remedy) from lost

    @contextmanager
    def _fed(self) -> Iterator[None]:
        """Let go of what is fed in the end."""
        if self.feed:
            run = self.run
            self.feed.identity = lambda: identity_on_device(run.device, run.path).key
        try:
            yield
        finally:
            if self.feed:
                self.feed.close()

    def _give(self, record: dict[str, Any] | None) -> None:
        if not self.feed:
            return
        if record is not None:
            self.feed.take(record)
        else:
            self.feed.flush()

    def _count(self, record: dict[str, Any]) -> None:
        kind = record["type"]
        if kind in ("step", "end"):
            self.peak_bytes = max(self.peak_bytes, number(record.get("peak"), 0.0) * 1024)
        if kind == "run":
            self._ended, self._open, self.end = self.seconds, 0.0, None
        elif kind == "step":
            self._open += number(record.get("seconds"), 0.0)
        elif kind == "end":
            self._ended += number(record.get("seconds"), 0.0)
            self._open, self.end = 0.0, record

    def _fail(self) -> None:
        run, error = self.run, self.end.get("error") if self.end else None
        cause = str(error)[:500] if error else run.failure()
        remedy = f"What it left: `toolkit pull {run.where} {run.name}`"
        if self._began and run.discard_if_refused():
            remedy = "Nothing was started; the name can be used again"
        raise ToolkitError(f"run {run.name} failed on {run.device.spec}: {cause}", remedy)


def how_to_attach(run: Run, when: str) -> str:
    """Return the command that shows a run again, after `when`."""
    return f"{when}: toolkit train {run.where} --attach {run.name}"


def number(value: Any, default: float = math.nan) -> float:
    """Return a number of a trace, which may be null or anything, as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return float(value)


def whole(value: Any) -> int | None:
    """Return a whole number of a trace, None if it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
