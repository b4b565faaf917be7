"""What the report's tables and tiles hold, as plain rows."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from toolkit.trace.analysis import Analysis
from toolkit.trace.text import clean_value
from toolkit.trace.units import KIB, count, duration, megabytes, number


@dataclass(frozen=True)
class Tile:
    """One key figure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Share:
    """One part of a whole, for a bar."""

    label: str
    color: str
    share: float


@dataclass(frozen=True)
class PublishedRow:
    """One row of the table of published figures; `own` marks this run."""

    model: str
    method: str
    seq_len: int | None
    megabytes: float | None
    seconds: float | None
    device: str
    origin: str
    own: bool = False
    closest: bool = False


def tiles(analysis: Analysis) -> list[Tile]:
    """Return the key figures, only those that are known."""
    timing, training, storage = analysis.timing, analysis.training, analysis.storage
    result = []
    if analysis.peak is not None:
        result.append(Tile("Peak memory", megabytes(analysis.peak.bytes), _of_device(analysis)))
    if timing.step_median_seconds is not None:
        slow = f"95 % below {duration(timing.step_p95_seconds)}"
        result.append(Tile("Step", duration(timing.step_median_seconds), f"median, {slow}"))
    if timing.tokens_per_second:
        result.append(Tile("Speed", f"{count(timing.tokens_per_second)} tok/s", _tokens(analysis)))
    if training.last_loss is not None:
        result.append(
            Tile("Loss", number(training.last_loss), f"from {number(training.first_loss)}")
        )
    result.append(Tile("Steps", count(timing.steps), f"in {duration(timing.seconds)}"))
    if timing.steps:
        per_step = storage.written_per_step
        note = f"{megabytes(per_step)} a step" if per_step else "nothing"
        result.append(Tile("Written to flash", megabytes(storage.written_bytes), note))
    return result


def phase_shares(analysis: Analysis) -> list[Share]:
    """Return the phases' shares of the time, and what lies outside of them."""
    timing = analysis.timing
    shares = [Share(p.phase, f"phase-{p.phase}", p.share) for p in timing.phases]
    if timing.outside_seconds and timing.seconds:
        shares.append(Share("outside", "unexplained", timing.outside_seconds / timing.seconds))
    return shares


def published_rows(analysis: Analysis) -> list[PublishedRow]:
    """Return this run and the published figures to set beside it."""
    comparison = analysis.published
    if comparison is None:
        return []
    run = analysis.trace.run
    own = PublishedRow(
        model=analysis.title,
        method=run.method,
        seq_len=run.bundle.seq_len,
        megabytes=None if analysis.peak is None else analysis.peak.bytes / 1e6,
        seconds=analysis.timing.step_median_seconds,
        device=run.device.model or run.device.abi or "",
        origin="this run, true peak (VmHWM)",
        own=True,
    )
    rows = [
        PublishedRow(
            model=figure.model,
            method=figure.method,
            seq_len=figure.seq_len,
            megabytes=figure.megabytes,
            seconds=figure.seconds,
            device=figure.device,
            origin=f"{figure.source}; {figure.settings}; {figure.measured}",
            closest=figure is comparison.closest,
        )
        for figure in comparison.figures
    ]
    return [own, *rows]


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


def _of_device(analysis: Analysis) -> str:
    total = analysis.trace.run.device.memory_total_kib
    if not total:
        return "VmHWM"
    share = analysis.peak.bytes / (total * KIB)
    return f"{share:.1%} of {megabytes(total * KIB)}".replace("%", " %")


def _tokens(analysis: Analysis) -> str:
    return f"{count(analysis.timing.tokens)} tokens"


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
