"""Where the peak is, what it consists of, and how memory goes through steps and layers."""

from dataclasses import dataclass, field

import numpy as np

from toolkit.trace.analysis.mappings import RestPart, group_mappings, name_rest
from toolkit.trace.schema import CATEGORIES, PHASES
from toolkit.trace.trace import NONE, Trace
from toolkit.trace.units import KIB

_LAG = 0.02

LABELS = {
    "base": "base weights",
    "adapters": "adapters",
    "optimizer": "optimizer state",
    "gradients": "gradients",
    "checkpoints": "checkpoints",
    "arena": "activation arena",
    "scratch": "kernel scratch",
    "runtime": "runtime",
    "unexplained": "not in the ledger",
}


@dataclass(frozen=True)
class Place:
    """A point in a run. Parts that do not apply, or are not known, are None."""

    step: int | None = None
    phase: str | None = None
    layer: int | None = None

    def __str__(self) -> str:
        parts = []
        if self.step:
            parts.append(f"at step {self.step:,}")
        if self.phase and self.layer is not None:
            parts.append(f"in the {self.phase} of layer {self.layer}")
        elif self.phase:
            parts.append(f"in the {self.phase} phase")
        return ", ".join(parts)


@dataclass(frozen=True)
class Part:
    """One category of memory at the peak."""

    category: str
    bytes: int
    share: float

    @property
    def label(self) -> str:
        """The category in words."""
        return LABELS[self.category]


@dataclass
class Peak:
    """The highest memory of the run.

    Attributes:
        bytes: The kernel's high-water mark.
        place: Where it was reached.
        seconds: When, since the start; None when only the end record tells it.
        row: Row in `Trace.phases`, None when it lies outside of all phases.
        parts: Ledger by category in descending order, and what the ledger does not explain last.
        rest: What the mappings, read once in a run, tell about the part that is not in the ledger.
        explained: Share of the peak that the ledger accounts for (above 1: it counts too much).
        resident: What the kernel said at the end of that phase, in bytes: anonymous, file, shmem,
            swap.
        largest_sample: The largest resident size a sampler every 0.5 s would have reported, bytes.
        steps_near: How many steps come within 1 % of it, None where that is not known.
    """

    bytes: int
    place: Place
    seconds: float | None = None
    row: int | None = None
    parts: list[Part] = field(default_factory=list)
    rest: list[RestPart] = field(default_factory=list)
    explained: float | None = None
    resident: dict[str, int] = field(default_factory=dict)
    largest_sample: int | None = None
    steps_near: int | None = None

    @property
    def named_parts(self) -> list[Part]:
        """The parts of the ledger, without the rest."""
        return [part for part in self.parts if part.category != "unexplained"]


def find_peak(trace: Trace) -> Peak | None:
    """Return the peak of a run, None for a trace without any memory figure."""
    candidates = [_peak_of_phases(trace), _peak_of_steps(trace), _peak_of_samples(trace)]
    if trace.end is not None and trace.end.peak:
        candidates.append(Peak(trace.end.peak * KIB, Place()))
    peaks = [peak for peak in candidates if peak is not None]
    if not peaks:
        return None
    # The kernel's counters lag a little, so readings of one peak differ by some pages: the highest
    # is the size, and of those near it the first candidate knows most about the place.
    size = max(peak.bytes for peak in peaks)
    peak = next(peak for peak in peaks if peak.bytes >= (1 - _LAG) * size)
    peak.bytes = size
    if peak.row is not None:
        _explain(peak, trace)
    peak.largest_sample = _largest_sample(trace)
    if len(trace.steps) and trace.run.device.hwm_reset is not False:
        peak.steps_near = int(np.count_nonzero(trace.steps["peak"] * KIB >= 0.99 * peak.bytes))
    return peak


def place_of(trace: Trace, row: int) -> Place:
    """Return the place of one row of the phases."""
    step, phase, layer = (int(trace.phases[name][row]) for name in ("step", "phase", "layer"))
    return Place(
        step=None if step == NONE else step,
        phase=PHASES[phase],
        layer=None if layer == NONE else layer,
    )


def _peak_of_phases(trace: Trace) -> Peak | None:
    phases = trace.phases
    if not len(phases) or not phases["hwm"].max():
        return None
    row = int(phases["hwm"].argmax())
    seconds = int(phases["end"][row]) / 1e9
    return Peak(int(phases["hwm"][row]) * KIB, place_of(trace, row), seconds, row)


def _peak_of_steps(trace: Trace) -> Peak | None:
    if not len(trace.steps) or not trace.steps["peak"].max():
        return None
    row = int(trace.steps["peak"].argmax())
    step = int(trace.steps["step"][row])
    return Peak(int(trace.steps["peak"][row]) * KIB, Place(step), trace.steps["t"][row] / 1e9)


def _peak_of_samples(trace: Trace) -> Peak | None:
    if not len(trace.samples) or not trace.samples["hwm"].max():
        return None
    sample = int(trace.samples["hwm"].argmax())
    size, t = int(trace.samples["hwm"][sample]) * KIB, trace.samples["t"][sample]
    row = int(np.searchsorted(trace.phases["begin"], t, side="right")) - 1
    if row >= 0 and trace.phases["end"][row] >= t:
        return Peak(size, place_of(trace, row), t / 1e9, row)
    later = np.flatnonzero(trace.steps["t"] >= t)
    step = int(trace.steps["step"][later[0]]) if len(later) else None
    return Peak(size, Place(step), t / 1e9)


def _explain(peak: Peak, trace: Trace) -> None:
    """Fill in what the phase of the peak says about it."""
    phases = trace.phases
    values = dict(zip(phases.columns, phases.values[peak.row].tolist(), strict=True))
    names = {"anonymous": "rss_anon", "file": "rss_file", "shmem": "rss_shmem", "swap": "swap"}
    peak.resident = {name: values[column] * KIB for name, column in names.items()}
    ledger = {name: values[f"ledger_{name}"] for name in CATEGORIES}
    known, total = sum(ledger.values()), peak.bytes
    if not known:
        return
    peak.explained = known / total
    ordered = sorted(ledger.items(), key=lambda item: -item[1])
    peak.parts = [Part(name, size, size / total) for name, size in ordered if size]
    if known < total:
        peak.parts.append(Part("unexplained", total - known, (total - known) / total))
        peak.rest = name_rest(total - known, ledger, group_mappings(trace.smaps))


def resident_of_samples(trace: Trace) -> np.ndarray:
    """Return the resident size of every sample in bytes, float64 [samples]."""
    samples = trace.samples
    resident: np.ndarray = samples["rss_anon"] + samples["rss_file"] + samples["rss_shmem"]
    return resident * KIB


def _largest_sample(trace: Trace) -> int | None:
    if not len(trace.samples):
        return None
    return int(resident_of_samples(trace).max()) or None
