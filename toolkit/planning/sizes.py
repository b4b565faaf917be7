"""Sizes as people write them."""

import re

from toolkit.errors import ToolkitError

_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 1024, "mi": 1 << 20, "gi": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmg]?i?)b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return bytes of "100MB", "1.5 GB", "96MiB" or "100000000B".

    Raises:
        ToolkitError: It is no size, or a number without a unit.
    """
    match = _SIZE.fullmatch(text.strip())
    if match and text.strip()[-1].isdigit():
        raise ToolkitError(f"'{text}' has no unit", f"Write it as {text.strip()}MB, for example")
    size = float(match[1]) * _UNITS[(match[2] or "").lower()] if match else 0
    if not 0 < size < 1e18:
        raise ToolkitError(f"'{text}' is not a size", "Write it as 100MB, 1.5GB or 96MiB")
    return int(size)
