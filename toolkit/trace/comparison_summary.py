"""A comparison on a terminal."""

from collections.abc import Callable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from toolkit.trace.analysis.memory import LABELS
from toolkit.trace.comparison import Change, RunComparison, summary_sentence
from toolkit.trace.units import UNKNOWN, duration, megabytes, number, percent

_NOTABLE = 0.02
_OPERATORS = 6


def print_comparison(console: Console, comparison: RunComparison) -> None:
    """Print the answer, the tables and what differs. Texts from traces are never markup."""
    console.print(Text(summary_sentence(comparison), style="bold"))
    for doubt in comparison.doubts:
        console.print(Text.assemble(("warning: ", "yellow"), doubt))
    categories = [
        Change(LABELS[row.name], row.before, row.after)
        for row in comparison.categories
        if row.before or row.after
    ]
    _print(console, "Memory at the peak", [*categories, comparison.peak], megabytes)
    _print(console, "Peak by phase", comparison.phase_peaks, megabytes)
    steps = [comparison.step] if comparison.step.ratio is not None else []
    _print(console, "Time a step", [*comparison.phase_seconds, *steps], duration)
    operators = comparison.operator_seconds[:_OPERATORS]
    _print(console, "Time a step, operators that changed most", operators, duration)
    _settings(console, comparison)


def _print(
    console: Console, title: str, rows: list[Change], show: Callable[[float | None], str]
) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for name in ("first", "second", "change", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        sign = "+" if row.difference > 0 else ""
        change = UNKNOWN if None in (row.before, row.after) else sign + _signed(show, row)
        ratio = "" if row.ratio is None else f"{sign}{percent(row.ratio)}"
        cells = (show(row.before), show(row.after), change, ratio)
        table.add_row(Text(row.name), *cells, style=_style(row))
    console.print()
    console.print(Text(title, style="bold"))
    console.print(Padding(table, (0, 0, 0, 1)))


def _signed(show: Callable[[float | None], str], row: Change) -> str:
    size = show(abs(row.difference)) if row.difference else "0"
    return f"-{size}" if row.difference < 0 else size


def _style(row: Change) -> str:
    if row.ratio is None or abs(row.ratio) < _NOTABLE:
        return ""
    return "red" if row.ratio > 0 else "green"


def _settings(console: Console, comparison: RunComparison) -> None:
    console.print()
    if not comparison.differences:
        console.print("All settings are the same.")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("differs", "first", "second"):
        table.add_column(name, overflow="fold")
    for row in comparison.differences:
        values = (_value(row.before), _value(row.after))
        table.add_row(Text(row.name.replace("_", "-")), *map(Text, values))
    console.print(Padding(table, (0, 0, 0, 1)))


def _value(value: object) -> str:
    if value is None or value == "":
        return UNKNOWN
    return number(value) if isinstance(value, float) else str(value)
