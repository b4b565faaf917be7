"""Sizes as people write them."""

import re

from toolkit.errors import ToolkitError

_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 1024, "mi": 1 << 20, "gi": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmg]?i?)b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return bytes of "100MB", "1.5 GB" or "96MiB".

    Raises:
        ToolkitError: It is no size, or has no unit: "30" is 30 MB to who types it, not 30 bytes.
    """
    text = text.strip()
    if re.fullmatch(r"[1-9]\d*(\.\d+)?", text):
        raise ToolkitError(f"'{text}' has no unit", f"Write {text}MB if megabytes are meant")
    match = _SIZE.fullmatch(text)
    size = float(match[1]) * _UNITS.get(match[2].lower(), 0) if match else 0
    if not 0 < size < 1e18:
        raise ToolkitError(f"'{text}' is not a size", "Write it as 100MB, 1.5GB or 96MiB")
    return int(size)
