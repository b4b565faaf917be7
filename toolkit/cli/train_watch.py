"""Watching a run: a bar with loss, tokens/s, peak memory and time left, or JSON lines."""

import json
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from toolkit.cli.common import error_console
from toolkit.cli.progress import Bar
from toolkit.cli.units import bytes_text, seconds_text
from toolkit.device import DeviceLost
from toolkit.device.runs import Run, follow
from toolkit.errors import ToolkitError

_SHOWN = {"run", "step", "evaluation", "event", "end"}


class Interrupts:
    """Counts Ctrl-C instead of raising, so that no transfer is cut in the middle."""

    def __init__(self) -> None:
        self.count = 0

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self.count += 1

    @contextmanager
    def counted(self) -> Iterator["Interrupts"]:
        """Count within the block; afterwards Ctrl-C raises again."""
        previous = signal.signal(signal.SIGINT, self._handle)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, previous)


class Tally:
    """Peak and time of a whole run, of all its parts: a resumed run's trace has several."""

    def __init__(self) -> None:
        self.peak_kib = 0.0
        self.end: dict[str, Any] | None = None
        self._ended = 0.0
        self._open = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of all parts; of one that was killed those of its steps."""
        return self._ended + self._open

    def record(self, record: dict[str, Any]) -> None:
        """Count a run, step or end record; others change nothing."""
        kind = record["type"]
        if kind in ("step", "end"):
            self.peak_kib = max(self.peak_kib, number(record.get("peak"), 0.0))
        if kind == "run":
            self._ended, self._open, self.end = self.seconds, 0.0, None
        elif kind == "step":
            self._open += number(record.get("seconds"), 0.0)
        elif kind == "end":
            self._ended += number(record.get("seconds"), 0.0)
            self._open, self.end = 0.0, record


class BarView:
    """A progress bar on standard error; without a terminal, a line for every tenth of the run."""

    def __init__(self, run: Run, steps: int | None) -> None:
        self._run = run
        self._steps = steps
        self._peak = 0.0
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=error_console,
        )
        self._task = self._bar.add_task(escape(run.name), total=steps, figures="starting")

    def __enter__(self) -> "BarView":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.say(line)

    def record(self, record: dict[str, Any]) -> None:
        """Show one record of the trace."""
        kind = record["type"]
        if kind == "run":
            self._steps = self._steps or _whole(_member(record, "settings", "steps"))
            self._bar.update(self._task, total=self._steps)
        elif kind == "step":
            self._step(record)
        elif kind == "evaluation":
            loss, perplexity = number(record.get("loss")), number(record.get("perplexity"))
            step = _whole(record.get("step"))
            self.say(f"step {step}: held-out loss {loss:.4f}, perplexity {perplexity:.2f}")
        elif kind == "event" and record.get("event") == "waiting_for_storage":
            cause = str(record.get("detail"))[:500]
            self.say(f"waiting to save until there is room on the device: {cause}")

    def _step(self, record: dict[str, Any]) -> None:
        step = _whole(record.get("step")) or 0
        seconds, tokens = number(record.get("seconds")), number(record.get("tokens"))
        self._peak = max(self._peak, number(record.get("peak"), 0.0) * 1024)
        speed = tokens / seconds if seconds > 0 else math.nan
        figures = (
            f"loss {number(record.get('loss')):.4f}  {speed:.0f} tokens/s  "
            f"peak {bytes_text(self._peak)}"
        )
        self._bar.update(self._task, completed=step, figures=figures)
        if self._bar.disable and self._due(step):
            self.say(f"step {step}/{self._steps or '?'}  {figures}  {seconds:.2f} s/step")

    def _due(self, step: int) -> bool:
        every = max(1, (self._steps or 10) // 10)
        return step == 1 or step % every == 0 or step == self._steps


class JsonView:
    """The records as JSON lines on standard output, one object each, nothing else."""

    def __enter__(self) -> "JsonView":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str) -> None:
        """People's lines go to standard error."""
        error_console.print(line, markup=False, highlight=False, soft_wrap=True)

    def record(self, record: dict[str, Any]) -> None:
        """Print one record."""
        if record["type"] in _SHOWN:
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()


def watch(run: Run, steps: int | None, *, as_json: bool, began: bool) -> None:
    """Follow a run until it ends or the second Ctrl-C; the first one stops it at a step boundary.

    Args:
        began: This command began the run; if the trainer refuses it, nothing of it is kept.

    Raises:
        ToolkitError: the trainer failed or died; the message is its own.
        DeviceLost: the connection broke; the run goes on.
    """
    tally = Tally()
    for past in run.history() if run.trace_offset else ():
        tally.record(past)
    earlier, tally.end = tally.end, None
    view = JsonView() if as_json else BarView(run, steps)
    with Interrupts().counted() as interrupts, view:
        stop_requested = False
        try:
            for record in follow(run):
                if record is not None:
                    view.record(record)
                    tally.record(record)
                if interrupts.count and not stop_requested:
                    run.request_stop()
                    stop_requested = True
                    view.say("stopping after this step; Ctrl-C again leaves it running")
                if interrupts.count > 1:
                    view.say(_how_to_attach(run, f"run {run.name} goes on"))
                    return
        except DeviceLost as lost:
            remedy = f"The run goes on; {_how_to_attach(run, 'when it is back')}"
            raise ToolkitError(lost.cause, remedy) from lost
        if tally.end is None and earlier is not None and run.exit_code() == 0:
            tally.end = earlier  # resumed though nothing was left to do, which adds nothing
        _conclude(run, view, tally, began)


def _conclude(run: Run, view: BarView | JsonView, tally: Tally, began: bool) -> None:
    end = tally.end
    if end is None or end.get("status") == "failed":
        error = end.get("error") if end else None
        cause = str(error)[:500] if error else run.failure()
        remedy = f"What it left: `toolkit pull {run.where} {run.name}`"
        if began and run.discard_if_refused():
            remedy = "Nothing was started; the name can be used again"
        raise ToolkitError(f"run {run.name} failed on {run.device.spec}: {cause}", remedy)
    steps, peak = _whole(end.get("steps")), bytes_text(tally.peak_kib * 1024)
    stopped = end.get("status") == "stopped"
    view.say(
        f"run {run.name} {'stopped' if stopped else 'completed'}: {steps} steps, "
        f"{seconds_text(tally.seconds)}, peak {peak}; adapter and state are saved"
    )
    if stopped:
        view.say(f"resume: toolkit train {run.where} --out {run.name} --resume")
    view.say(f"next: toolkit pull {run.where} {run.name} -o runs/{run.name}")


def _how_to_attach(run: Run, when: str) -> str:
    return f"{when}: toolkit train {run.where} --attach {run.name}"


def number(value: Any, default: float = math.nan) -> float:
    """Return a number of a trace, which may be null or anything, as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return float(value)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _member(record: dict[str, Any], *names: str) -> Any:
    value: Any = record
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
