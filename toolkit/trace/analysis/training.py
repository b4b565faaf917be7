"""What was learned: loss, learning rate, evaluations, and what was written to flash for it."""

from dataclasses import dataclass

import numpy as np

from toolkit.trace.schema import Evaluation
from toolkit.trace.trace import Trace


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


@dataclass(frozen=True)
class Storage:
    """Traffic to and from flash in bytes, and major page faults."""

    written_bytes: int
    written_per_step: float | None
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
    )


def analyze_storage(trace: Trace) -> Storage:
    """Return the traffic to and from flash.

    Phases and steps both count what was written; phases outside of steps (save) are in the former
    only and steps' totals are there without phases, so the larger sum is the fuller one.
    """
    phases, steps = trace.phases, trace.steps
    by_phase = float(phases["written_bytes"].sum(dtype=np.float64))
    written = max(by_phase, float(steps["written_bytes"].sum()))
    return Storage(
        written_bytes=int(written),
        written_per_step=written / len(steps) if len(steps) else None,
        read_bytes=int(phases["read_bytes"].sum(dtype=np.float64)),
        major_faults=int(phases["major_faults"].sum(dtype=np.float64)),
    )
