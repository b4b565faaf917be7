"""Lone surrogates: halves of characters, which JSON can hold and UTF-8 cannot."""

import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")


def repair(value: Any) -> tuple[Any, int]:
    """Return a JSON value with U+FFFD for each lone surrogate, and their number."""
    if isinstance(value, str):
        return _SURROGATE.subn("\ufffd", value)
    if isinstance(value, list):
        pairs = [repair(entry) for entry in value]
        return [entry for entry, _ in pairs], sum(count for _, count in pairs)
    if isinstance(value, dict):
        keys = {key: repair(key) for key in value}
        values = {key: repair(entry) for key, entry in value.items()}
        count = sum(count for pairs in (keys, values) for _, count in pairs.values())
        return {keys[key][0]: values[key][0] for key in value}, count
    return value, 0
