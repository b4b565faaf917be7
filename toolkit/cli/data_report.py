"""What people are told of training data: counts, and what they would not expect."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from toolkit.cli.common import console, say
from toolkit.data.refusals import RowsRefused
from toolkit.trace.units import plural

_NAMED = 20


@contextmanager
def refused_rows() -> Iterator[None]:
    """Name all rows that are refused within the block, a line each, before the error goes on."""
    try:
        yield
    except RowsRefused as error:
        _say_some(error.rows)
        raise


def say_left_out(rows: Sequence[str]) -> None:
    """Name the rows that are no mistakes, but of which nothing can be learned."""
    _say_some([f"left out: {row}" for row in rows])


def _say_some(lines: Sequence[str]) -> None:
    for line in lines[:_NAMED]:
        say(line)
    if len(lines) > _NAMED:
        say(f"... and {len(lines) - _NAMED} more")


def print_counts(report: dict[str, Any]) -> None:
    """Print what data.json says on standard output."""
    for line in count_lines(report):
        print_line(line)


def count_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield what data.json says, a line each."""
    length = report["settings"]["seq_len"]
    dropped = ", ".join(f"{count} {why}" for why, count in report["dropped"].items()) or "none"
    yield (
        f"{plural(report['documents'], 'document')}: {report['split']} split, "
        f"{report['truncated']} truncated, dropped: {dropped}"
    )
    for part in ("train", "validation"):
        if part not in report:
            continue
        counts = report[part]
        share = counts["labelled"] / counts["tokens"]
        filled = counts["tokens"] / (counts["sequences"] * length)
        yield (
            f"{part}: {plural(counts['sequences'], 'sequence')} of {length} tokens "
            f"from {plural(counts['documents'], 'document')}, {counts['tokens']} tokens "
            f"({filled:.0%} filled), {counts['labelled']} labelled ({share:.0%})"
        )
    yield from _remarks(report)


def _remarks(report: dict[str, Any]) -> Iterator[str]:
    """Yield what a user would not expect."""
    asked, length = report["settings"].get("validation", 0), report["settings"]["seq_len"]
    tokens = sum(report[part]["tokens"] for part in ("train", "validation") if part in report)
    if asked and "validation" not in report:
        yield "nothing is held out: that takes two different documents, or one of two sequences"
    elif asked and abs(report["held_out"] - asked) * tokens > length:
        yield (
            f"held out is {report['held_out']:.1%} of the tokens instead of {asked:.1%}: chats and "
            "documents that fit one sequence are held out whole"
        )
    if report["repaired"]:
        yield (
            f"{plural(report['repaired'], 'document')} had halves of characters (lone surrogates), "
            "now U+FFFD"
        )


def print_line(line: str) -> None:
    """Print a line on standard output, as it is."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
