"""Numbers as people read them. MB is 10^6 bytes everywhere; the kernel's kB is 1024 bytes."""

import re
from math import isfinite

_BEFORE_UNIT = re.compile(
    r"(?<=\d) (?=(?:%|°C|[kMG]?B|µs|ms|s|min|h|tokens|steps?|MB)\b|[%°])|(?<=step) (?=\d)"
    r"|(?<=layer) (?=\d)|(?<=length) (?=\d)"
)
KIB = 1024
UNKNOWN = "\N{EN DASH}"


def megabytes(count: float | None) -> str:
    """Return bytes as "61.2 MB" (or kB, GB)."""
    if count is None or not isfinite(count):
        return UNKNOWN
    sign = "-" if count < 0 else ""
    size = abs(count)
    if size >= 999_500_000:
        return f"{sign}{size / 1e9:,.{1 if size >= 9.995e9 else 2}f} GB"
    if size >= 99_950_000:
        return f"{sign}{size / 1e6:.0f} MB"
    if size >= 99_950:
        return f"{sign}{size / 1e6:.1f} MB"
    if size >= 1000:
        return f"{sign}{size / 1e3:.0f} kB"
    return f"{sign}{size:.0f} B"


def duration(seconds: float | None) -> str:
    """Return seconds as "820 ms", "12.3 s", "4 min 05 s" or "2 h 14 min"."""
    if seconds is None or not isfinite(seconds):
        return UNKNOWN
    if seconds < 0.0995:
        return f"{seconds * 1e3:.1f} ms" if seconds >= 0.00095 else f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 119.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min"


def percent(share: float | None) -> str:
    """Return a share of one as "41 %", with a decimal below ten."""
    if share is None or not isfinite(share):
        return UNKNOWN
    value = share * 100
    if 0 < abs(value) < 0.1:
        return "< 0.1 %"
    digits = 1 if 0 < abs(value) < 9.95 else 0
    return f"{value:,.{digits}f} %"


def count(value: float | None) -> str:
    """Return a whole number with separators."""
    return UNKNOWN if value is None or not isfinite(value) else f"{value:,.0f}"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with `digits` significant digits, in scientific form only when far from 1."""
    if value is None or not isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        text = f"{value:#.{digits}g}"
        return f"{value:,.0f}" if abs(float(text)) >= 10**digits else text.rstrip("0").rstrip(".")
    mantissa, exponent = f"{value:.{max(digits - 2, 1)}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def unbroken(text: str) -> str:
    """Return `text` with no-break spaces between numbers and their units."""
    return _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", text)


def plural(number_of: int, noun: str) -> str:
    """Return "1 line" or "3 lines"."""
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"
