"""Two runs side by side: what grew, by category and phase, and which settings differ."""

from dataclasses import asdict, dataclass
from typing import Any

from msgspec.structs import asdict as struct_asdict

from toolkit.choices import lowering_label
from toolkit.trace.analysis import Analysis
from toolkit.trace.analysis.memory import LABELS
from toolkit.trace.schema import CATEGORIES, PHASES
from toolkit.trace.units import duration, megabytes, percent

_PLACES = ("out", "data", "adapter", "bundle", "eval_data")
"""Settings that are paths or say nothing about memory: listed last, never as a reason."""


@dataclass(frozen=True)
class Change:
    """One quantity in both runs; None where a run does not have it."""

    name: str
    before: float | None
    after: float | None

    @property
    def difference(self) -> float:
        return (self.after or 0) - (self.before or 0)

    @property
    def ratio(self) -> float | None:
        """Growth as a share of the first run's value; None without one."""
        if not self.before or self.after is None:
            return None
        return self.difference / self.before


@dataclass(frozen=True)
class Difference:
    """A setting or property that is not the same in both runs."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class RunComparison:
    """How the second run differs from the first.

    Attributes:
        peak, step: Peak in bytes and median time of a step in seconds.
        categories: Bytes at each run's peak, by category of the ledger, the largest change first.
        operator_seconds: Time per step in seconds by operator, named with its phase, the largest
            change first; empty where a run does not tell it.
        phase_peaks, phase_seconds: Highest memory in bytes and time per step in seconds, by phase.
        differences: Settings, bundle and device.
        doubts: Why the two may not be comparable.
    """

    first: Analysis
    second: Analysis
    peak: Change
    step: Change
    categories: list[Change]
    phase_peaks: list[Change]
    phase_seconds: list[Change]
    operator_seconds: list[Change]
    differences: list[Difference]
    doubts: list[str]

    def exceeds(self, limit: float) -> bool:
        """Return whether the peak grew by more than `limit`, a share; unknown peaks do."""
        return self.peak.ratio is None or self.peak.ratio > limit

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""

        def changes(rows: list[Change]) -> list[dict[str, Any]]:
            return [_change(row) for row in rows]

        return {
            "first": str(self.first.trace.path),
            "second": str(self.second.trace.path),
            "peak": _change(self.peak),
            "step_seconds": _change(self.step),
            "categories": changes(self.categories),
            "phase_peaks": changes(self.phase_peaks),
            "phase_seconds": changes(self.phase_seconds),
            "operator_seconds": changes(self.operator_seconds),
            "differences": [asdict(row) for row in self.differences],
            "doubts": self.doubts,
        }

    def _repr_html_(self) -> str:
        from toolkit.api.notebook import printed
        from toolkit.trace.comparison_summary import print_comparison

        return printed(lambda console: print_comparison(console, self))


def compare_runs(first: Analysis, second: Analysis) -> RunComparison:
    """Return how `second` differs from `first`."""
    peaks = [None if run.peak is None else run.peak.bytes for run in (first, second)]
    steps = [run.timing.step_median_seconds for run in (first, second)]
    return RunComparison(
        first=first,
        second=second,
        peak=Change("peak", *peaks),
        step=Change("step", *steps),
        categories=_categories(first, second),
        phase_peaks=_phases(first, second, lambda run, phase: phase.peak_bytes or None),
        phase_seconds=_phases(first, second, _per_step),
        operator_seconds=_operators(first, second),
        differences=_differences(first, second),
        doubts=_doubts(first, second),
    )


def summary_sentence(comparison: RunComparison) -> str:
    """Return the answer in one sentence."""
    peak = comparison.peak
    if peak.before is None or peak.after is None:
        return "At least one of the runs has no memory figures."
    if not peak.difference:
        return f"The peak is {megabytes(peak.after)} in both runs."
    verb = "grew" if peak.difference > 0 else "shrank"
    change = f"by {megabytes(abs(peak.difference))} ({percent(abs(peak.ratio or 0))})"
    text = f"The peak {verb} {change}, from {megabytes(peak.before)} to {megabytes(peak.after)}"
    same_sign = [c for c in comparison.categories if c.difference * peak.difference > 0]
    reasons = [f"{LABELS[c.name]} {_signed(c.difference)}" for c in same_sign[:3]]
    text += f": {', '.join(reasons)}." if reasons else "."
    step = comparison.step
    if step.ratio is not None:
        text += f" A step takes {duration(step.after)} instead of {duration(step.before)}."
    return text


def _signed(size: float) -> str:
    return f"{'+' if size > 0 else ''}{megabytes(size)}"


def _change(row: Change) -> dict[str, Any]:
    return {**asdict(row), "difference": row.difference, "ratio": row.ratio}


def _categories(first: Analysis, second: Analysis) -> list[Change]:
    sizes = [
        {} if run.peak is None else {part.category: part.bytes for part in run.peak.parts}
        for run in (first, second)
    ]
    names = [name for name in (*CATEGORIES, "unexplained") if name in sizes[0] or name in sizes[1]]
    rows = [Change(name, sizes[0].get(name, 0), sizes[1].get(name, 0)) for name in names]
    return sorted(rows, key=lambda row: -abs(row.difference))


def _per_step(run: Analysis, phase: Any) -> float | None:
    within = phase.phase in ("embed", "forward", "head", "backward", "optimizer")
    return phase.seconds / run.timing.steps if within and run.timing.steps else None


def _phases(first: Analysis, second: Analysis, value: Any) -> list[Change]:
    values = [{p.phase: value(run, p) for p in run.timing.phases} for run in (first, second)]
    rows = [Change(name, values[0].get(name), values[1].get(name)) for name in PHASES]
    return [row for row in rows if row.before is not None or row.after is not None]


def _operators(first: Analysis, second: Analysis) -> list[Change]:
    seconds = [
        {f"{o.operator} ({o.phase})": o.seconds / run.timing.steps for o in run.timing.operators}
        if run.timing.steps
        else {}
        for run in (first, second)
    ]
    if not all(seconds):
        return []
    names = dict.fromkeys([*seconds[0], *seconds[1]])
    rows = [Change(name, seconds[0].get(name), seconds[1].get(name)) for name in names]
    return sorted(rows, key=lambda row: -abs(row.difference))


def _differences(first: Analysis, second: Analysis) -> list[Difference]:
    rows: list[Difference] = []
    runs = (first.trace.run, second.trace.run)
    rows.append(Difference("model", *(run.model for run in runs)))
    rows.append(Difference("lowering", *(lowering_label(run.lowering) for run in runs)))
    rows.append(Difference("toolkit", *(run.toolkit for run in runs)))
    places = (run.checkpoints.place for run in runs)
    rows.append(Difference("checkpoints kept in", *places))
    rows.append(Difference("state kept in", *(run.state.place for run in runs)))
    for part in ("bundle", "device"):
        before, after = (struct_asdict(getattr(run, part)) for run in runs)
        rows += [Difference(f"{part} {key}", before[key], after[key]) for key in before]
    before, after = (run.settings for run in runs)
    names = list(dict.fromkeys([*before, *after]))
    names.sort(key=lambda name: name in _PLACES)
    rows += [Difference(name, before.get(name), after.get(name)) for name in names]
    skipped = ("device memory_available_kib", "resume")
    return [row for row in rows if row.before != row.after and row.name not in skipped]


def _doubts(first: Analysis, second: Analysis) -> list[str]:
    doubts = []
    for which, run in (("first", first), ("second", second)):
        if run.status != "completed":
            doubts.append(f"The {which} run is {run.status}; its peak may come later.")
        if run.trace.left_out.lines:
            doubts.append(f"The {which} trace has lines that could not be read.")
    swaps = [any(f.code == "swap" for f in run.findings) for run in (first, second)]
    if swaps[0] != swaps[1]:
        doubts.append("One of the runs was swapped out in part, which its peak does not count.")
    resets = {run.trace.run.device.hwm_reset for run in (first, second)}
    if len(resets) > 1:
        doubts.append("Peaks of phases were not measured the same way on both devices.")
    return doubts
