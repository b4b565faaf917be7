"""What was learned: loss, learning rate, evaluations, and what was written to flash for it."""

from dataclasses import dataclass

import numpy as np

from toolkit.trace.schema import PHASES, Evaluation
from toolkit.trace.trace import Trace

_STEP_PHASES = ("embed", "forward", "head", "backward", "optimizer")


@dataclass(frozen=True)
class Training:
    """Course of the training.

    Attributes:
        first_step, last_step: Numbers of the first and last recorded step.
        first_loss, last_loss: Mean over the first and the last tenth of the steps (at least one,
            at most twenty), so that one noisy batch does not speak for the run.
        window: Steps in each of these means.
        lowest_loss, lowest_step: The lowest loss of a single step.
        missing_losses: Steps whose loss was not finite.
        learning_rate: First, highest and last learning rate.
        evaluations: Held-out losses, by step.
        kept_step: Step of the adapter that was kept as the best on held-out data; None where none
            was.
    """

    first_step: int | None
    last_step: int | None
    first_loss: float | None
    last_loss: float | None
    window: int
    lowest_loss: float | None
    lowest_step: int | None
    missing_losses: int
    learning_rate: tuple[float, float, float] | None
    evaluations: list[Evaluation]
    kept_step: int | None

    @property
    def span(self) -> int:
        """Steps from the first to the last recorded one."""
        return (self.last_step or 0) - (self.first_step or 0)


@dataclass(frozen=True)
class Storage:
    """Traffic to and from flash in bytes, and major page faults.

    Attributes:
        written_bytes: All that was written.
        spilled_bytes, spilled_per_step: Of it, checkpoints that did not stay in memory.
        state_bytes, state_per_step: Of it, adapters, gradients and optimizer state that did not.
        saved_bytes: Of it, what saves wrote, and adapters that were kept as the best.
        saves: How often the run saved.
    """

    written_bytes: int
    spilled_bytes: int
    spilled_per_step: float | None
    state_bytes: int
    state_per_step: float | None
    saved_bytes: int
    saves: int
    read_bytes: int
    major_faults: int


def analyze_training(trace: Trace) -> Training:
    """Return the course of the training."""
    steps = trace.steps
    finite = np.isfinite(steps["loss"])
    losses, numbers = steps["loss"][finite], steps["step"][finite]
    window = min(20, max(1, len(losses) // 10))
    rates = steps["lr"][np.isfinite(steps["lr"])]
    lowest = int(losses.argmin()) if len(losses) else None
    return Training(
        first_step=int(steps["step"][0]) if len(steps) else None,
        last_step=int(steps["step"][-1]) if len(steps) else None,
        first_loss=float(losses[:window].mean()) if len(losses) else None,
        last_loss=float(losses[-window:].mean()) if len(losses) else None,
        window=window,
        lowest_loss=None if lowest is None else float(losses[lowest]),
        lowest_step=None if lowest is None else int(numbers[lowest]),
        missing_losses=int(len(steps) - finite.sum()),
        learning_rate=(float(rates[0]), float(rates.max()), float(rates[-1]))
        if len(rates)
        else None,
        evaluations=sorted(trace.evaluations, key=lambda evaluation: evaluation.step),
        kept_step=_kept_step(trace),
    )


def _kept_step(trace: Trace) -> int | None:
    if trace.run.settings.get("keep") != "best":
        return None
    return next((e.step for e in reversed(trace.events) if e.event == "best"), None)


def analyze_storage(trace: Trace) -> Storage:
    """Return the traffic to and from flash.

    Phases, steps and saves each count what was written. Not every trace has all of them, so of two
    counts of the same the larger is the fuller one. Steps of older trainers count saves as well.
    """
    phases, steps = trace.phases, trace.steps
    within = np.isin(phases["phase"], [PHASES.index(name) for name in _STEP_PHASES])
    saving = phases["phase"] == PHASES.index("save")
    saves = [event for event in trace.events if event.event == "saved"]
    kept = [event for event in trace.events if event.event in ("saved", "best")]
    saved = max(
        _total(phases["written_bytes"][saving]), sum(event.written_bytes or 0 for event in kept)
    )
    told = np.isfinite(steps["spilled_bytes"])
    by_step = _total(steps["written_bytes"]) - (0 if told.any() else saved)
    in_steps = max(_total(phases["written_bytes"][within]), by_step)
    state = min(in_steps, _total(steps["state_bytes"]))
    rest = in_steps - state
    spilled = min(rest, _total(steps["spilled_bytes"][told])) if told.any() else rest
    return Storage(
        written_bytes=int(max(_total(phases["written_bytes"]), in_steps + saved)),
        spilled_bytes=int(spilled),
        spilled_per_step=spilled / len(steps) if len(steps) else None,
        state_bytes=int(state),
        state_per_step=state / len(steps) if len(steps) else None,
        saved_bytes=int(saved),
        saves=len(saves),
        read_bytes=int(_total(phases["read_bytes"])),
        major_faults=int(_total(phases["major_faults"])),
    )


def _total(values: np.ndarray) -> float:
    return float(values.sum(dtype=np.float64))
