"""Where the time goes: by phase, by layer, by step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.trace.schema import PHASES
from toolkit.trace.trace import NONE, Trace
from toolkit.trace.units import KIB


@dataclass(frozen=True)
class PhaseTotal:
    """All occurrences of one phase. `share` is of the run's time, `peak_bytes` the largest."""

    phase: str
    count: int
    seconds: float
    share: float
    median_seconds: float
    p95_seconds: float
    peak_bytes: int
    major_faults: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class OperatorTotal:
    """All calls of one operator in one phase. `share` is of the run's time."""

    phase: str
    operator: str
    calls: int
    seconds: float
    share: float
    share_of_phase: float


@dataclass(frozen=True)
class LayerTotal:
    """One layer: time per step (median over the steps) and the largest peak, by direction."""

    layer: int
    forward_seconds: float | None
    backward_seconds: float | None
    forward_peak_bytes: int | None
    backward_peak_bytes: int | None


@dataclass(frozen=True)
class Timing:
    """Time of a run.

    Attributes:
        seconds: From the first to the last record, sessions joined without the pause between them.
        step_seconds: Median, 95th percentile and sum of the steps' own times.
        tokens: Tokens of all steps.
        tokens_per_second: Tokens over the time of the steps that have both.
        phases: In descending order of time.
        operators: Of every phase that tells of them, in descending order of time.
        outside_seconds: Time of the run that no phase covers, None without phases.
        layers: By number.
    """

    seconds: float
    steps: int
    step_median_seconds: float | None
    step_p95_seconds: float | None
    steps_seconds: float | None
    tokens: int
    tokens_per_second: float | None
    phases: list[PhaseTotal]
    operators: list[OperatorTotal]
    outside_seconds: float | None
    layers: list[LayerTotal]


def analyze_timing(trace: Trace) -> Timing:
    """Return where the time of a run went."""
    seconds = last_time(trace) / 1e9
    step_seconds = trace.steps["seconds"]
    known = np.isfinite(step_seconds) & (step_seconds > 0)
    tokens = trace.steps["tokens"]
    measured = float(step_seconds[known].sum())
    phases = _phase_totals(trace, seconds)
    covered = sum(phase.seconds for phase in phases)
    return Timing(
        seconds=seconds,
        steps=len(trace.steps),
        step_median_seconds=float(np.median(step_seconds[known])) if known.any() else None,
        step_p95_seconds=float(np.quantile(step_seconds[known], 0.95)) if known.any() else None,
        steps_seconds=measured if known.any() else None,
        tokens=int(tokens.sum()),
        tokens_per_second=float(tokens[known].sum()) / measured if measured else None,
        phases=phases,
        operators=_operator_totals(trace, phases, seconds),
        outside_seconds=max(seconds - covered, 0.0) if phases else None,
        layers=_layer_totals(trace),
    )


def last_time(trace: Trace) -> int:
    """Return the time of the last record in ns."""
    times = [0]
    if len(trace.phases):
        times.append(int(trace.phases["end"].max()))
    if len(trace.steps):
        times.append(int(trace.steps["t"].max()))
    if len(trace.samples):
        times.append(int(trace.samples["t"][-1]))
    if trace.end is not None:
        times.append(trace.end.t)
    return max(times)


def phase_seconds(trace: Trace) -> NDArray[np.float64]:
    """Return the duration of every phase, float64 [phases]."""
    seconds: NDArray[np.float64] = (trace.phases["end"] - trace.phases["begin"]) / 1e9
    return seconds


def _phase_totals(trace: Trace, run_seconds: float) -> list[PhaseTotal]:
    phases = trace.phases
    durations = phase_seconds(trace)
    totals = []
    for code in np.unique(phases["phase"]):
        rows = phases["phase"] == code
        seconds = durations[rows]
        total = float(seconds.sum())
        totals.append(
            PhaseTotal(
                phase=PHASES[code],
                count=int(rows.sum()),
                seconds=total,
                share=total / run_seconds if run_seconds else 0.0,
                median_seconds=float(np.median(seconds)),
                p95_seconds=float(np.quantile(seconds, 0.95)),
                peak_bytes=int(phases["hwm"][rows].max()) * KIB,
                major_faults=_sum(phases["major_faults"][rows]),
                read_bytes=_sum(phases["read_bytes"][rows]),
                written_bytes=_sum(phases["written_bytes"][rows]),
            )
        )
    return sorted(totals, key=lambda total: -total.seconds)


def _sum(values: NDArray[np.int64]) -> int:
    # Sums of hostile values could pass 64 bits; floats only lose the last digits.
    return int(values.sum(dtype=np.float64))


def _operator_totals(
    trace: Trace, phases: list[PhaseTotal], run_seconds: float
) -> list[OperatorTotal]:
    codes, lists = trace.phases["phase"], trace.phases["operators"]
    sums = np.zeros((len(PHASES), len(trace.operators.names), 2))
    for number, names in enumerate(trace.operators.lists):
        rows = np.flatnonzero(lists == number)
        at = trace.phases["operators_at"][rows]
        for place, operator in enumerate(names):
            calls_and_ns = trace.operators.values[at + place].astype(np.float64)
            for column in range(2):
                weights = calls_and_ns[:, column]
                sums[:, operator, column] += np.bincount(codes[rows], weights, len(PHASES))
    totals = []
    for phase in phases:
        for name, (calls, ns) in zip(
            trace.operators.names, sums[PHASES.index(phase.phase)].tolist(), strict=True
        ):
            if not calls and not ns:
                continue
            seconds = ns / 1e9
            totals.append(
                OperatorTotal(
                    phase=phase.phase,
                    operator=name,
                    calls=int(calls),
                    seconds=seconds,
                    share=seconds / run_seconds if run_seconds else 0.0,
                    share_of_phase=seconds / phase.seconds if phase.seconds else 0.0,
                )
            )
    return sorted(totals, key=lambda total: -total.seconds)


def _layer_totals(trace: Trace) -> list[LayerTotal]:
    phases = trace.phases
    layers = [int(layer) for layer in np.unique(phases["layer"]) if layer != NONE]
    forward = _by_layer(trace, "forward")
    backward = _by_layer(trace, "backward")
    totals = []
    for layer in layers:
        forward_seconds, forward_peak = forward.get(layer, (None, None))
        backward_seconds, backward_peak = backward.get(layer, (None, None))
        totals.append(
            LayerTotal(layer, forward_seconds, backward_seconds, forward_peak, backward_peak)
        )
    return totals


def _by_layer(trace: Trace, phase: str) -> dict[int, tuple[float, int]]:
    """Return median seconds per step and peak bytes of every layer in one phase."""
    phases = trace.phases
    rows = np.flatnonzero((phases["phase"] == PHASES.index(phase)) & (phases["layer"] != NONE))
    layer, step, hwm = (phases[name][rows] for name in ("layer", "step", "hwm"))
    seconds = phase_seconds(trace)[rows]
    order = np.lexsort((step, layer))
    layer, step, hwm, seconds = layer[order], step[order], hwm[order], seconds[order]
    if not len(layer):
        return {}
    # A step may visit a layer several times (micro-batches): add these up first.
    visits = np.flatnonzero(np.append(True, np.diff(layer) | np.diff(step)))
    per_step = np.add.reduceat(seconds, visits)
    peak = np.maximum.reduceat(hwm, visits)
    starts = np.flatnonzero(np.append(True, np.diff(layer[visits])))
    ends = np.append(starts[1:], len(visits))
    return {
        int(layer[visits[a]]): (float(np.median(per_step[a:b])), int(peak[a:b].max()) * KIB)
        for a, b in zip(starts, ends, strict=True)
    }
