"""Writes the character classes that a byte-level tokenizer splits by, as `tokenizers` knows them.

Android releases know different versions of Unicode, so the app does not ask them: the classes are
read from `tokenizers` itself, one code point at a time, and stored as ranges.

    python tools/android/unicode_tables.py     (after an upgrade of tokenizers; prints what changed)
"""

import sys
from collections.abc import Callable
from pathlib import Path

from tokenizers import Regex
from tokenizers.pre_tokenizers import Digits, Split

TARGET = Path(__file__).parents[2] / (
    "android_app/app/src/main/kotlin/dev/toolkit/trainer/tokenizer/UnicodeRanges.kt"
)
_LIMIT = 0x110000
_WIDTH = 84


def main() -> None:
    """Write the Kotlin file."""
    tables = {
        "LETTERS": ("`\\\\p{L}` of a pattern", matching(Split(Regex(r"\p{L}"), "removed"))),
        "NUMBERS": ("`\\\\p{N}` of a pattern", matching(Split(Regex(r"\p{N}"), "removed"))),
        "SPACES": ("`\\\\s` of a pattern", matching(Split(Regex(r"\s"), "removed"))),
        "CAPITALS": (
            "`[\\\\p{Lu}\\\\p{Lt}]` of a pattern",
            matching(Split(Regex(r"[\p{Lu}\p{Lt}]"), "removed")),
        ),
        "SMALLS": ("`\\\\p{Ll}` of a pattern", matching(Split(Regex(r"\p{Ll}"), "removed"))),
        "MARKS": ("`\\\\p{M}` of a pattern", matching(Split(Regex(r"\p{M}"), "removed"))),
        "DIGITS": ("what the pre-tokenizer `Digits` splits off", isolated(Digits(True))),
    }
    lines = [
        "package dev.toolkit.trainer.tokenizer",
        "",
        "// Written by tools/android/unicode_tables.py: code point ranges as pairs of distances in",
        "// base 36, from the end of the last range to the beginning of the next and to its end.",
        "internal object UnicodeRanges {",
    ]
    for name, (what, members) in tables.items():
        lines += [f"    /** {what.replace(chr(92) * 2, chr(92))} */", f"    const val {name} ="]
        lines += literal(ranges(members))
    TARGET.write_text("\n".join([*lines, "}"]) + "\n")
    for name, (_, members) in tables.items():
        print(f"{name}: {len(members)} code points")


def code_points() -> list[int]:
    """All code points that a string of text can hold."""
    return [c for c in range(_LIMIT) if not 0xD800 <= c <= 0xDFFF]


def matching(splitter: Split) -> list[int]:
    """Code points that a splitter which removes its matches leaves nothing of."""
    return members(lambda text: splitter.pre_tokenize_str(text))


def isolated(splitter: Digits) -> list[int]:
    """Code points that are split from a letter before them."""
    found = []
    for c in code_points():
        if len(splitter.pre_tokenize_str("a" + chr(c))) == 2:
            found.append(c)
    return found


def members(split: Callable[[str], list]) -> list[int]:
    """Code points whose text alone gives no piece."""
    return [c for c in code_points() if not split(chr(c))]


def ranges(values: list[int]) -> list[tuple[int, int]]:
    """Inclusive ranges of sorted numbers."""
    found: list[list[int]] = []
    for value in values:
        if found and found[-1][1] == value - 1:
            found[-1][1] = value
        else:
            found.append([value, value])
    return [(first, last) for first, last in found]


def literal(pairs: list[tuple[int, int]]) -> list[str]:
    """Kotlin lines of one string constant."""
    words, at = [], 0
    for first, last in pairs:
        words += [base36(first - at), base36(last - first)]
        at = last
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) + 1 > _WIDTH:
            lines.append(line)
            line = ""
        line += word + " "
    lines.append(line.rstrip())
    return [f'        "{text}"' + (" +" if text is not lines[-1] else "") for text in lines]


def base36(number: int) -> str:
    """A number as Kotlin's toInt(36) reads it."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
    return text


if __name__ == "__main__":
    sys.exit(main())
