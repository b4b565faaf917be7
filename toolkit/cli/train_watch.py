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

from toolkit.choices import APPROXIMATE_LOWERINGS, lowering_label
from toolkit.cli.common import error_console, say
from toolkit.cli.progress import Bar
from toolkit.cli.units import bytes_text, seconds_text
from toolkit.device.runs import Run
from toolkit.device.watching import Watching, how_to_attach, number, whole
from toolkit.trace import units

_SHOWN = {"run", "step", "evaluation", "event", "end"}
_FIRST_STEPS = 3  # enough to tell what a run takes; the first one reads the weights
_WORTH_TELLING = 5  # steps


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


class BarView:
    """A progress bar on standard error; without a terminal, a line for every tenth of the run."""

    def __init__(self, run: Run, steps: int | None, *, forecast: bool = False) -> None:
        """Show `run`; with `forecast` say what time is left once the first steps tell."""
        self._run = run
        self._steps = steps
        self._first: list[float] | None = [] if forecast else None
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
            self._steps = self._steps or whole(_member(record, "settings", "steps"))
            self._bar.update(self._task, total=self._steps)
            if record.get("lowering") in APPROXIMATE_LOWERINGS:
                self.say(f"the bundle's lowering: {lowering_label(record['lowering'])}")
        elif kind == "step":
            self._step(record)
        elif kind == "evaluation":
            loss, perplexity = number(record.get("loss")), number(record.get("perplexity"))
            line = f"step {whole(record.get('step'))}: held-out loss {loss:.4f}"
            best = ", the lowest so far" if record.get("best") is True else ""
            self.say(f"{line}, perplexity {units.number(perplexity)}{best}")
        elif kind == "event" and record.get("event") == "waiting_for_computer":
            self.say(f"the device waits {str(record.get('detail'))[:500]}")
        elif kind == "event" and record.get("event") == "waiting_for_storage":
            cause = str(record.get("detail"))[:500]
            self.say(f"waiting to save until there is room on the device: {cause}")

    def _step(self, record: dict[str, Any]) -> None:
        step = whole(record.get("step")) or 0
        seconds, tokens = number(record.get("seconds")), number(record.get("tokens"))
        self._peak = max(self._peak, number(record.get("peak"), 0.0) * 1024)
        speed = tokens / seconds if seconds > 0 else math.nan
        figures = (
            f"loss {number(record.get('loss')):.4f}  {speed:.0f} tokens/s  "
            f"peak {bytes_text(self._peak)}"
        )
        self._bar.update(self._task, completed=step, figures=figures)
        self._forecast(step, seconds)
        if self._bar.disable and self._due(step):
            self.say(f"step {step}/{self._steps or '?'}  {figures}  {seconds:.2f} s/step")

    def _forecast(self, step: int, seconds: float) -> None:
        """Say once what time is left, by the first steps but the very first."""
        if self._first is None:
            return
        self._first.append(seconds)
        if len(self._first) < _FIRST_STEPS:
            return
        later, self._first = self._first[1:], None
        left = (self._steps or 0) - step
        if left >= _WORTH_TELLING:
            pace = sum(later) / len(later)
            self.say(f"about {seconds_text(left * pace)} left, {pace:.3g} s a step")

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


def say_time(seconds: float | None) -> None:
    """Say before a run how long its steps will take, if that is known."""
    if seconds is not None:
        say(f"the run will take about {seconds_text(seconds)}, by what was measured of the device")


def watch(
    watching: Watching,
    steps: int | None,
    *,
    as_json: bool,
    forecast: bool = False,
    hints: bool = True,
) -> None:
    """Show a run until it ends or the second Ctrl-C; the first one stops it at a step boundary.

    Args:
        watching: The run.
        steps: How many it will have, None if the trace is to tell.
        as_json: Print records.
        forecast: Say what time is left after the first steps.
        hints: Name the commands that follow.

    Raises:
        ToolkitError: The trainer failed or died, or the connection broke.
    """
    run = watching.run
    view = JsonView() if as_json else BarView(run, steps, forecast=forecast)
    with Interrupts().counted() as interrupts, view:
        stop_requested = False
        for record in watching:
            if record is not None:
                view.record(record)
            if interrupts.count and not stop_requested:
                watching.request_stop()
                stop_requested = True
                view.say("stopping; Ctrl-C again leaves it running")
            if interrupts.count > 1:
                view.say(how_to_attach(run, f"run {run.name} goes on"))
                return
        _conclude(run, view, watching, hints)


def _conclude(run: Run, view: BarView | JsonView, watching: Watching, hints: bool) -> None:
    end = watching.end or {}
    steps, peak = whole(end.get("steps")), bytes_text(watching.peak_bytes)
    stopped = end.get("status") == "stopped"
    view.say(
        f"run {run.name} {'stopped' if stopped else 'completed'}: {steps} steps, "
        f"{seconds_text(watching.seconds)}, peak {peak}; adapter and state are saved"
    )
    if reason := end.get("reason"):
        view.say(f"it ended early: {str(reason)[:500]}")
    if watching.computer and watching.computer.steps:
        view.say(f"the layers above the cut took {watching.computer.bytes_words}")
    if not hints:
        return
    if stopped:
        tracked = f" {watching.feed.words}" if watching.feed else ""
        if watching.computer:
            tracked += f" --computer-bundle {watching.computer.bundle}"
        view.say(f"resume: toolkit train {run.where} --out {run.name} --resume{tracked}")
    view.say(f"next: toolkit pull {run.where} {run.name} -o runs/{run.name}")


def _member(record: dict[str, Any], *names: str) -> Any:
    value: Any = record
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
