"""Subsets of a model's layers as people write them: "16-23", "last:8", "0,4,8-11".

The trainer reads the same (runtime/engine/training/layers.cc).
"""

from collections.abc import Iterable

from toolkit.errors import ToolkitError


def parse_layers(text: str, count: int) -> tuple[int, ...]:
    """Return the layers that a text names, in ascending order; an empty text names all.

    Args:
        text: Numbers and ranges, both ends included, with spaces around them or without, or
            "last:K" for the K uppermost.
        count: Layers of the model, numbered from 0.

    Raises:
        ToolkitError: It names none, or layers that the model does not have.
    """
    if not text:
        return tuple(range(count))
    if text.startswith("last:"):
        uppermost = _number(text, text.removeprefix("last:"))
        if not 1 <= uppermost <= count:
            raise _beyond(text, count)
        return tuple(range(count - uppermost, count))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = _number(text, first)
        end = _number(text, last) if dash else begin
        if not begin <= end:
            raise _unreadable(text)
        if end >= count:
            raise _beyond(text, count)
        found.update(range(begin, end + 1))
    return tuple(sorted(found))


def layers_text(layers: Iterable[int]) -> str:
    """Return layers as numbers and ranges, "0,4,8-11": the one text of those that name them."""
    ranges: list[list[int]] = []
    for layer in sorted(layers):
        if ranges and ranges[-1][1] == layer - 1:
            ranges[-1][1] = layer
        else:
            ranges.append([layer, layer])
    return ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in ranges)


def _number(text: str, word: str) -> int:
    digits = word.strip(" ")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9:
        raise _unreadable(text)
    return int(digits)


def _unreadable(text: str) -> ToolkitError:
    return ToolkitError(
        f"layers '{text}' cannot be read", "Write them as 16-23, as 0,4,8-11 or as last:8"
    )


def _beyond(text: str, count: int) -> ToolkitError:
    return ToolkitError(
        f"layers '{text}' are not all there: the model has {count}",
        f"Choose from 0 to {count - 1}, or at most last:{count}",
    )
