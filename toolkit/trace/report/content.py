"""What the report's tables and tiles hold, as plain rows."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from toolkit.choices import lowering_label
from toolkit.trace.analysis import Analysis, Peak
from toolkit.trace.analysis.timing import OperatorTotal, PhaseTotal
from toolkit.trace.analysis.training import Storage
from toolkit.trace.published import Figure
from toolkit.trace.text import clean_value
from toolkit.trace.units import KIB, count, duration, megabytes, number, percent, plural

_COLORS = 8
_MAX_OPERATORS = 24


@dataclass(frozen=True)
class Tile:
    """One key figure."""

    label: str
    value: str
    note: str = ""

    @property
    def parts(self) -> tuple[str, str]:
        """The number and its unit."""
        value, _, unit = self.value.partition(" ")
        return value, unit


@dataclass(frozen=True)
class Share:
    """One part of a whole, for a bar."""

    label: str
    color: str
    share: float


@dataclass(frozen=True)
class OperatorGroup:
    """The operators of one phase; what they leave of its time is `outside`, in seconds.

    `rows` pairs a color with an operator, the longest first; `further` is what was cut off.
    """

    phase: PhaseTotal
    rows: list[tuple[str, OperatorTotal]]
    further: list[OperatorTotal]
    outside: float
    shares: list[Share]

    @property
    def further_seconds(self) -> float:
        """Time of the operators that have no row."""
        return sum(total.seconds for total in self.further)


@dataclass(frozen=True)
class PublishedRow:
    """One row of the table of published figures; `own` marks this run, `note` counts from 1."""

    model: str
    method: str
    seq_len: int | None
    megabytes: float | None
    seconds: float | None
    device: str
    note: int | None = None
    own: bool = False
    closest: bool = False


@dataclass(frozen=True)
class PublishedTable:
    """Published figures beside this run, and where they come from."""

    rows: list[PublishedRow]
    notes: list[str]


def tiles(analysis: Analysis) -> list[Tile]:
    """Return the key figures, only those that are known."""
    timing, training, storage = analysis.timing, analysis.training, analysis.storage
    result = []
    if analysis.peak is not None:
        result.append(
            Tile("Peak memory", megabytes(analysis.peak.bytes), _of_device(analysis, analysis.peak))
        )
    if timing.step_median_seconds is not None:
        slow = f"p95 {duration(timing.step_p95_seconds)}"
        result.append(Tile("Step, median", duration(timing.step_median_seconds), slow))
    if timing.tokens_per_second:
        speed, total = count(timing.tokens_per_second), f"{count(timing.tokens)} in all"
        result.append(Tile("Tokens per second", speed, total))
    if training.last_loss is not None:
        means = f", means of {training.window} steps" if training.window > 1 else ""
        note = f"from {number(training.first_loss)}{means}"
        result.append(Tile("Loss", number(training.last_loss), note))
    result.append(Tile("Steps", count(timing.steps), f"in {duration(timing.seconds)}"))
    if timing.steps:
        result.append(
            Tile("Written to flash", megabytes(storage.written_bytes), _written_by(storage))
        )
    return result


def _written_by(storage: Storage) -> str:
    if storage.spilled_bytes or storage.state_bytes:
        per_step = (storage.spilled_per_step or 0) + (storage.state_per_step or 0)
        return f"{megabytes(per_step)} a step spilled"
    if storage.saves:
        return f"by {plural(storage.saves, 'save')}"
    return "by the trace" if storage.written_bytes else "nothing"


def phase_shares(analysis: Analysis) -> list[Share]:
    """Return the phases' shares of the time, and what lies outside of them."""
    timing = analysis.timing
    shares = [Share(p.phase, f"phase-{p.phase}", p.share) for p in timing.phases]
    if timing.outside_seconds and timing.seconds:
        shares.append(Share("outside", "unexplained", timing.outside_seconds / timing.seconds))
    return shares


def operator_groups(analysis: Analysis) -> list[OperatorGroup]:
    """Return the operators of every phase that tells of them, in the order of the phases."""
    timing = analysis.timing
    families = list(dict.fromkeys(_family(total.operator) for total in timing.operators))
    colors = {name: f"operator-{min(i, _COLORS - 1)}" for i, name in enumerate(families)}
    groups = []
    for phase in timing.phases:
        mine = [total for total in timing.operators if total.phase == phase.phase]
        if not mine:
            continue
        rows = [(colors[_family(total.operator)], total) for total in mine[:_MAX_OPERATORS]]
        outside = max(0.0, phase.seconds - sum(total.seconds for total in mine))
        shares = [Share(total.operator, color, total.share_of_phase) for color, total in rows]
        if phase.seconds:
            shares.append(Share("outside of operators", "unexplained", outside / phase.seconds))
        groups.append(OperatorGroup(phase, rows, mine[_MAX_OPERATORS:], outside, shares))
    return groups


def _family(operator: str) -> str:
    """Return the operator without what makes it a variant: forward and backward share a color."""
    return operator.removesuffix("_backward").removesuffix("_saved")


def kernel_rows(analysis: Analysis) -> list[tuple[str, str]]:
    """Return what the kernel, not the engine, says about the peak."""
    peak = analysis.peak
    if peak is None:
        return []
    rows = [("high-water mark (VmHWM)", megabytes(peak.bytes))]
    if peak.steps_near:
        rows.append(("steps within 1 % of it", f"{peak.steps_near:,} of {analysis.timing.steps:,}"))
    if peak.largest_sample:
        rows.append(("largest of the 0.5 s samples", megabytes(peak.largest_sample)))
    labels = {
        "anonymous": "anonymous, when the phase ended",
        "file": "file pages, when the phase ended",
        "shmem": "shared, when the phase ended",
        "swap": "in swap, when the phase ended",
    }
    rows += [(labels[name], megabytes(size)) for name, size in peak.resident.items() if size]
    return rows


def published_table(analysis: Analysis) -> PublishedTable | None:
    """Return this run and the published figures to set beside it."""
    comparison = analysis.published
    if comparison is None:
        return None
    run = analysis.trace.run
    own = PublishedRow(
        model=analysis.title,
        method=lowering_label(run.lowering),
        seq_len=run.bundle.seq_len,
        megabytes=None if analysis.peak is None else analysis.peak.bytes / 1e6,
        seconds=analysis.timing.step_median_seconds,
        device=run.device.model or run.device.abi or "",
        own=True,
    )
    origins = {figure: _origin(figure) for figure in comparison.figures}
    notes = list(dict.fromkeys(origins.values()))
    rows = [
        PublishedRow(
            model=figure.model,
            method=figure.method,
            seq_len=figure.seq_len,
            megabytes=figure.megabytes,
            seconds=figure.seconds,
            device=figure.device,
            note=notes.index(origin) + 1,
            closest=figure is comparison.closest,
        )
        for figure, origin in origins.items()
    ]
    return PublishedTable([own, *rows], notes)


def _origin(figure: Figure) -> str:
    return f"{figure.source}: {figure.settings}; memory {figure.measured}"


def settings(analysis: Analysis) -> list[tuple[str, Any]]:
    """Return the settings of the run in force."""
    return [(name.replace("_", "-"), value) for name, value in analysis.trace.run.settings.items()]


def environment(analysis: Analysis) -> list[tuple[str, Any]]:
    """Return what the run ran on and with."""
    run = analysis.trace.run
    device, bundle = run.device, run.bundle
    rows = [
        ("started", _date(run.time_unix)),
        ("toolkit", run.toolkit),
        ("device", device.model),
        ("instruction set", " ".join(filter(None, (device.abi, device.isa)))),
        ("threads of cores", _pair(device.threads, device.cores)),
        ("kernel", device.kernel),
        ("page size", _kib(None if device.page_size is None else device.page_size / KIB)),
        ("memory", _kib(device.memory_total_kib)),
        ("memory available at start", _kib(device.memory_available_kib)),
        ("layers", bundle.layers),
        ("hidden size", bundle.hidden_size),
        ("vocabulary", None if bundle.vocab_size is None else count(bundle.vocab_size)),
        ("sequence length", bundle.seq_len),
        ("LoRA rank, alpha", _pair(bundle.rank, bundle.alpha, ", ")),
        ("adapter parameters", _count(bundle.adapter_parameters)),
        ("base weights on disk", None if not bundle.base_bytes else megabytes(bundle.base_bytes)),
    ]
    return [(name, clean_value(value)) for name, value in rows if value not in (None, "")]


def _of_device(analysis: Analysis, peak: Peak) -> str:
    total = analysis.trace.run.device.memory_total_kib
    if not total:
        return "VmHWM"
    share = peak.bytes / (total * KIB)
    return f"{percent(share)} of {megabytes(total * KIB)} RAM"


def _date(time_unix: float | None) -> str | None:
    if time_unix is None:
        return None
    try:
        return datetime.fromtimestamp(time_unix, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return None


def _pair(first: Any, second: Any, between: str = " of ") -> str | None:
    known = [
        number(v) if isinstance(v, float) else str(v) for v in (first, second) if v is not None
    ]
    return between.join(known) or None


def _kib(size: float | None) -> str | None:
    return None if not size else megabytes(size * KIB)


def _count(value: int | None) -> str | None:
    return None if value is None else count(value)
