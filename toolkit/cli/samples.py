"""Samples for people: rows as the model sees them, with what is learned marked."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any

from rich.text import Text
from typer.core import TyperCommand

from toolkit.cli.common import console
from toolkit.trace.units import plural

if TYPE_CHECKING:
    from toolkit.data.showing import Sample, Token

SHOWN = 5
"""How many samples `--show` shows where no number is given."""
BEGIN, END = "\u27e6", "\u27e7"
"""White square brackets, around what is learned where nothing can be underlined."""
# What a terminal would obey instead of showing it: control characters, and those that turn text.
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class ShowCommand(TyperCommand):
    """A command whose option `--show` may stand without a number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write the number that is left out after `--show`, and parse."""
        return super().parse_args(ctx, list(_with_number(args)))


def _with_number(args: Sequence[str]) -> Iterator[str]:
    for word, following in zip_longest(args, args[1:], fillvalue=""):
        yield word
        if word == "--show" and not following.isdecimal():
            yield str(SHOWN)


def print_samples(samples: Sequence["Sample"], total: int) -> None:
    """Print samples, of `total` that there are, on standard output.

    On a terminal with colours what is learned is underlined and special tokens have a colour;
    elsewhere what is learned stands between brackets. Control characters are shown as escapes.
    """
    styled = console.color_system is not None
    mark = "underlined" if styled else f"between {BEGIN} and {END}"
    _line(f"{len(samples)} of {plural(total, 'training sequence')}, what is learned {mark}")
    for number, sample in enumerate(samples, start=1):
        tokens = sum(len(document.ids) for document in sample.documents)
        learned = sum(token.learned for document in sample.documents for token in document.tokens)
        _line(
            f"--- {number}: {plural(tokens, 'token')}, {learned} learned, {sample.padding} padding"
        )
        for index, document in enumerate(sample.documents):
            if document.source or index:
                _line(f"--- {document.source}".rstrip())
            if styled:
                console.print(_styled(document.tokens), soft_wrap=True)
            else:
                print(_bracketed(document.tokens))
    _line("---")


def _styled(tokens: Iterable["Token"]) -> Text:
    text = Text()
    for style, part in _runs(tokens, _style):
        text.append(part, style)
    return text


def _style(token: "Token") -> str:
    color = "cyan" if token.special else "green" if token.learned else ""
    return f"{color} underline" if token.learned else color


def _bracketed(tokens: Iterable["Token"]) -> str:
    runs = _runs(tokens, lambda token: token.learned)
    return "".join(f"{BEGIN}{part}{END}" if learned else part for learned, part in runs)


def _runs(tokens: Iterable["Token"], key: Callable[["Token"], Any]) -> Iterator[tuple[Any, str]]:
    """Yield the text of tokens that follow each other and are alike."""
    for alike, run in groupby(tokens, key):
        yield alike, _visible("".join(token.text for token in run))


def _visible(text: str) -> str:
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _line(text: str) -> None:
    console.print(_visible(text), markup=False, highlight=False, soft_wrap=True)
