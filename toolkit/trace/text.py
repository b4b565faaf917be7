"""Text from a device is untrusted: it is cut, and what could steer a terminal is replaced."""

import json
import unicodedata
from typing import Any

_LIMIT = 300
_MAX_ENTRIES = 200


def clean(value: str, limit: int = _LIMIT) -> str:
    """Return `value` cut to `limit` characters, control and format characters replaced by U+FFFD.

    That takes away terminal escapes, overrides of the writing direction and lone surrogates; it is
    not HTML escaping, which the template does.
    """
    cut = value[:limit] + ("…" if len(value) > limit else "")
    if cut.isascii() and cut.isprintable():
        return cut
    replaced = ("\ufffd" if unicodedata.category(c)[0] == "C" else c for c in cut)
    return "".join(replaced)


def clean_value(value: Any) -> str | int | float | bool | None:
    """Return a JSON value as something that fits one cell of a table."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if abs(value) < 1e300 else "out of range"
    if isinstance(value, str):
        return clean(value)
    try:
        return clean(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):
        return "unreadable"


def clean_mapping(mapping: dict[str, Any]) -> dict[str, str | int | float | bool | None]:
    """Return the first entries of `mapping` with clean keys and values."""
    items = list(mapping.items())[:_MAX_ENTRIES]
    return {clean(key, 80): clean_value(value) for key, value in items}
