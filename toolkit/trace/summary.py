"""The analysis on a terminal."""

from math import log
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from toolkit.choices import lowering_label
from toolkit.trace.analysis import Analysis, Finding
from toolkit.trace.narrative import beside_published, headline, paragraphs
from toolkit.trace.published import Figure
from toolkit.trace.units import UNKNOWN, count, duration, megabytes, number, percent

Side = Literal["left", "right"]
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_BAR = 24
_OPERATORS = 8


def print_summary(console: Console, analysis: Analysis) -> None:
    """Print what `analysis` found. Texts from the trace are never taken as markup."""
    console.print(_title(analysis))
    console.print()
    console.print(Text(headline(analysis), style="bold"))
    for text in paragraphs(analysis):
        console.print(Text(text))
    if analysis.findings:
        console.print()
    for finding in analysis.findings:
        console.print(_finding(finding))
    for heading, table in (
        ("Memory at the peak", _parts(analysis)),
        ("Mappings of the process", _mappings(analysis)),
        ("Time by phase", _phases(analysis)),
        ("Time by operator", _operators(analysis)),
        ("Published", _published(analysis)),
    ):
        if table is not None:
            console.print()
            console.print(Text(heading, style="bold"))
            console.print(Padding(table, (0, 0, 0, 1)))


def print_overview(console: Console, analyses: list[Analysis]) -> None:
    """Print one line for each run, then what must be known about any of them."""
    columns: list[tuple[str, Side]] = [
        (name, "right") for name in ("length", "steps", "peak", "step", "tokens/s", "loss")
    ]
    table = _table(("run", "left"), ("lowering", "left"), *columns, ("model", "left"))
    for analysis in analyses:
        run, timing, peak = analysis.trace.run, analysis.timing, analysis.peak
        table.add_row(
            Text(_name(analysis)),
            Text(lowering_label(run.lowering)),
            count(run.bundle.seq_len),
            count(timing.steps),
            megabytes(peak.bytes if peak else None),
            duration(timing.step_median_seconds),
            count(timing.tokens_per_second),
            number(analysis.training.last_loss),
            Text(analysis.title),
        )
    console.print(table)
    console.print()
    for analysis in analyses:
        console.print(Text(f"{_name(analysis)}: ", style="dim") + Text(headline(analysis)))
    for analysis in analyses:
        for finding in analysis.findings:
            if finding.severity != "note":
                console.print(Text(f"{_name(analysis)}: ", style="dim") + _finding(finding))


def _name(analysis: Analysis) -> str:
    path = analysis.trace.path
    return path.parent.name or path.name


def _title(analysis: Analysis) -> Text:
    run = analysis.trace.run
    parts = [
        analysis.title,
        lowering_label(run.lowering),
        analysis.status,
        run.device.model or run.device.abi or "",
    ]
    title = Text(" · ".join(part for part in parts if part))
    title.stylize("bold", 0, len(analysis.title))
    return title


def _finding(finding: Finding) -> Text:
    text = Text()
    text.append(f"{finding.severity}: ", style=_STYLES[finding.severity])
    text.append(finding.title)
    if finding.detail:
        text.append(f". {finding.detail}", style="dim")
    return text


def _table(*columns: tuple[str, Side]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=justify == "right")
    return table


def _bar(share: float) -> Text:
    filled = max(0.0, min(1.0, share)) * _BAR
    return Text("█" * int(filled) + "▌" * (filled % 1 >= 0.5), style="blue")


def _parts(analysis: Analysis) -> Table | None:
    if analysis.peak is None or not analysis.peak.parts:
        return None
    table = _table(("category", "left"), ("size", "right"), ("share", "right"), ("", "left"))
    for part in analysis.peak.parts:
        table.add_row(part.label, megabytes(part.bytes), percent(part.share), _bar(part.share))
    for rest in analysis.peak.rest:
        table.add_row(Text(f"  {rest.name}", style="dim"), Text(megabytes(rest.bytes), style="dim"))
    return table


def _mappings(analysis: Analysis) -> Table | None:
    if not analysis.mappings:
        return None
    table = _table(("mapped", "left"), ("resident", "right"), ("anonymous", "right"))
    for group in analysis.mappings:
        table.add_row(Text(group.name), megabytes(group.bytes), megabytes(group.anonymous))
    return table


def _phases(analysis: Analysis) -> Table | None:
    timing = analysis.timing
    if not timing.phases:
        return None
    columns = ("time", "share", "count", "median", "peak")
    table = _table(("phase", "left"), *((name, "right") for name in columns), ("", "left"))
    for phase in timing.phases:
        table.add_row(
            phase.phase,
            duration(phase.seconds),
            percent(phase.share),
            count(phase.count),
            duration(phase.median_seconds),
            megabytes(phase.peak_bytes),
            _bar(phase.share),
        )
    outside = timing.outside_seconds or 0.0
    share = outside / timing.seconds if timing.seconds else 0.0
    table.add_row("outside", duration(outside), percent(share), "", "", "", _bar(share))
    return table


def _operators(analysis: Analysis) -> Table | None:
    operators = analysis.timing.operators
    if not operators:
        return None
    columns = ("time", "share", "count", "per call")
    table = _table(
        ("operator", "left"),
        ("phase", "left"),
        *((name, "right") for name in columns),
        ("", "left"),
    )
    for total in operators[:_OPERATORS]:
        table.add_row(
            Text(total.operator),
            total.phase,
            duration(total.seconds),
            percent(total.share),
            count(total.calls),
            duration(total.seconds / total.calls if total.calls else None),
            _bar(total.share),
        )
    if rest := operators[_OPERATORS:]:
        seconds, share = sum(o.seconds for o in rest), sum(o.share for o in rest)
        name = f"{len(rest)} more"
        table.add_row(name, "", duration(seconds), percent(share), "", "", _bar(share))
    return table


def _published(analysis: Analysis) -> RenderableType | None:
    comparison = analysis.published
    if comparison is None:
        return None
    columns = ("length", "MB", "s/step")
    table = _table(
        ("model", "left"), ("method", "left"), *((name, "right") for name in columns), ("", "left")
    )
    run = analysis.trace.run
    peak = analysis.peak.bytes / 1e6 if analysis.peak else None
    step = analysis.timing.step_median_seconds
    table.add_row(
        Text("this run"),
        Text(lowering_label(run.lowering)),
        count(run.bundle.seq_len),
        UNKNOWN if peak is None else f"{peak:,.1f}",
        number(step, 3),
        Text(run.device.model or run.device.abi or ""),
        style="bold",
    )
    for figure in _alike(comparison.figures, run.bundle.seq_len):
        table.add_row(
            figure.model,
            figure.method,
            count(figure.seq_len),
            f"{figure.megabytes:,.1f}",
            number(figure.seconds, 3),
            f"{figure.device} ({figure.source.partition(',')[0]})",
        )
    return Group(Text(beside_published(analysis)), table)


def _alike(figures: list[Figure], seq_len: int | None) -> list[Figure]:
    """Return the figures of the published length nearest to the run's, and those without one."""
    lengths = {figure.seq_len for figure in figures if figure.seq_len}
    nearest = min(lengths, key=lambda length: abs(log(length / (seq_len or 256))), default=None)
    return [figure for figure in figures if figure.seq_len in (nearest, None)]
