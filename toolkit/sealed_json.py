"""JSON objects that carry a checksum of themselves: what manifests and settings are damaged by is
no less than what the files are that they speak of.

The member "crc32" is the CRC-32 (zlib's) of the object without it, written compactly with sorted
keys, as eight hexadecimal digits. Spaces and the order of members do not matter.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

CHECKSUM = "crc32"


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with its checksum as the last member, in place of one it had."""
    plain = {key: value for key, value in content.items() if key != CHECKSUM}
    return {**plain, CHECKSUM: _checksum(plain)}


def flaw(content: Mapping[str, Any]) -> str:
    """Return how an object fails its checksum, to follow its name; nothing if it fits."""
    if CHECKSUM not in content:
        return "has no checksum: it was damaged, or made by an earlier version"
    return "" if content[CHECKSUM] == seal(content)[CHECKSUM] else "does not match its checksum"


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Whether an object has its checksum, and is what it was when that was made."""
    return not flaw(content)


def _checksum(content: dict[str, Any]) -> str:
    stored = json.loads(json.dumps(content))  # as it is read back: numbers for keys become text
    text = json.dumps(stored, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"
