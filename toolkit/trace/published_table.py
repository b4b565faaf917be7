"""The published tables with measured runs in the next column."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from toolkit.choices import lowering_label
from toolkit.errors import ToolkitError
from toolkit.trace.analysis import Analysis, Peak, read_analysis
from toolkit.trace.location import TRACE_NAME
from toolkit.trace.published import Figure, all_figures, compare_with_published
from toolkit.trace.units import UNKNOWN, count

_MAX_RUNS = 200


@dataclass(frozen=True)
class Measured:
    """A run of ours beside a published figure.

    Attributes:
        megabytes: True peak (VmHWM).
        seconds: Median time of a step.
        notes: What differs between the two measurements.
    """

    run: str
    model: str
    method: str
    seq_len: int | None
    megabytes: float
    seconds: float | None
    device: str
    date: str
    notes: list[str]


@dataclass(frozen=True)
class Row:
    """One published figure (None for runs without one) and the runs that belong beside it."""

    figure: Figure | None
    measured: list[Measured]


def find_runs(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield traces: of a run directory or file itself, else of all runs below a directory."""
    for path in map(Path, paths):
        if path.is_dir() and not (path / TRACE_NAME).is_file():
            found = sorted(path.rglob(TRACE_NAME))[:_MAX_RUNS]
            if not found:
                raise ToolkitError(f"no runs below {path}", "Give run directories or one with runs")
            yield from found
        else:
            yield path


def published_rows(analyses: Iterable[Analysis]) -> list[Row]:
    """Return all published figures in their order, then runs of models without figures.

    A run stands beside figures of the same model and method, and of the same length where the
    figure names one.
    """
    figures = all_figures()
    beside: dict[Figure, list[Measured]] = {figure: [] for figure in figures}
    others: list[Measured] = []
    for analysis in analyses:
        peak = analysis.peak
        if peak is None:
            continue
        matching = [figure for figure in _figures_of(analysis) if figure in beside]
        for figure in matching:
            beside[figure].append(_measured(analysis, peak, figure))
        if not matching:
            others.append(_measured(analysis, peak, None))
    rows = [Row(figure, beside[figure]) for figure in figures]
    return rows + ([Row(None, others)] if others else [])


def rows_to_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the rows as JSON values."""
    return [asdict(row) for row in rows]


def print_published(console: Console, rows: list[Row]) -> None:
    """Print the tables, one for each source, with our runs to the right."""
    source = None
    for row in rows:
        origin = row.figure.source if row.figure else "Other models"
        if origin != source:
            source = origin
            console.print()
            console.print(Text(origin, style="bold"))
            if row.figure:
                how = f"{row.figure.device}; {row.figure.settings}; memory {row.figure.measured}"
                console.print(Text(how, style="dim"))
            same = [r for r in rows if _origin(r) == origin]
            console.print(_table(same) if row.figure else _others(row.measured))
    notes = dict.fromkeys(note for row in rows for run in row.measured for note in run.notes)
    if notes:
        console.print()
    for note in notes:
        console.print(Text(f"- {note}", style="dim"))


def _origin(row: Row) -> str:
    return row.figure.source if row.figure else "Other models"


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("model", "method"):
        table.add_column(name)
    for name in ("length", "MB", "s/step", "ours MB", "s/step"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("device, date, run", overflow="fold")
    for row in rows:
        for first, run in enumerate(row.measured or [None]):
            table.add_row(*_published_cells(row.figure, first == 0), *_own_cells(run))
    return table


def _others(runs: list[Measured]) -> Table:
    """Return the runs of models for which nothing is published."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("model", "method"):
        table.add_column(name)
    for name in ("length", "ours MB", "s/step"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("device, date, run", overflow="fold")
    for run in runs:
        cells = (run.model, run.method, count(run.seq_len))
        table.add_row(*map(Text, cells), *_own_cells(run, False))
    return table


def _published_cells(figure: Figure | None, first: bool) -> list[Text]:
    if figure is None or not first:
        return [Text("")] * 5
    seconds = UNKNOWN if figure.seconds is None else f"{figure.seconds:.2f}"
    megabytes = f"{figure.megabytes:,.1f}"
    cells = (figure.model, figure.method, count(figure.seq_len), megabytes, seconds)
    return [Text(cell) for cell in cells]


def _own_cells(run: Measured | None, with_length: bool = True) -> list[Text]:
    if run is None:
        return [Text("")] * 3
    seconds = UNKNOWN if run.seconds is None else f"{run.seconds:.2f}"
    length = f"length {run.seq_len}" if with_length and run.seq_len is not None else ""
    place = ", ".join(filter(None, (run.device, run.date, length, run.run)))
    return [Text(f"{run.megabytes:,.1f}", style="bold"), Text(seconds, style="bold"), Text(place)]


def _figures_of(analysis: Analysis) -> list[Figure]:
    comparison = compare_with_published(analysis.trace.run)
    if comparison is None or not comparison.same_model:
        return []
    run = analysis.trace.run
    return [
        figure
        for figure in comparison.figures
        if figure.method.lower() in (run.lowering.lower(), "lora")
        and figure.seq_len in (None, run.bundle.seq_len)
    ]


def _measured(analysis: Analysis, peak: Peak, figure: Figure | None) -> Measured:
    run = analysis.trace.run
    return Measured(
        run=analysis.trace.path.parent.name,
        model=analysis.title,
        method=lowering_label(run.lowering),
        seq_len=run.bundle.seq_len,
        megabytes=peak.bytes / 1e6,
        seconds=analysis.timing.step_median_seconds,
        device=run.device.model or run.device.abi or "unknown device",
        date=_date(run.time_unix),
        notes=_notes(analysis, figure),
    )


def _notes(analysis: Analysis, figure: Figure | None) -> list[str]:
    """Say what makes the two figures differ beside the engine."""
    run = analysis.trace.run
    notes = ["Ours is a true peak: the kernel's high-water mark of resident memory (VmHWM)."]
    if figure is not None and "sampled" in figure.measured:
        notes.append(f"{figure.source} {figure.measured}, so its true peak is higher.")
    if not (run.device.abi or "").startswith("arm"):
        notes.append("Ours did not run on a phone: memory is comparable, time is not.")
    sequences = _sequences(run.settings)
    if sequences > 1:
        notes.append(f"A step of ours has {sequences} sequences, which takes as many times longer.")
    optimizer = run.settings.get("optimizer")
    if figure is not None and optimizer and str(optimizer).lower() not in figure.settings.lower():
        notes.append(f"Ours used {optimizer}; the published settings are: {figure.settings}.")
    if analysis.status != "completed":
        notes.append(f"Run {analysis.trace.path.parent.name} is {analysis.status}.")
    return notes


def _sequences(settings: dict[str, Any]) -> int:
    values = [settings.get(name, 1) for name in ("batch_size", "grad_accum")]
    whole = [value for value in values if isinstance(value, int) and 0 < value < 1 << 20]
    return whole[0] * whole[1] if len(whole) == 2 else 1


def _date(time_unix: float | None) -> str:
    try:
        return datetime.fromtimestamp(time_unix or 0, UTC).date().isoformat() if time_unix else ""
    except (ValueError, OverflowError, OSError):
        return ""


def read_runs(paths: Iterable[str | Path]) -> list[Analysis]:
    """Read the runs that `find_runs` finds.

    Raises:
        ToolkitError: As `read_trace`.
    """
    return [read_analysis(path) for path in find_runs(paths)]
