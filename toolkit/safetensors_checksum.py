"""The checksum in the metadata of the safetensors files that the trainer writes.

"toolkit_crc32" is the CRC-32 (zlib's) of the whole file with zeros for its own eight hexadecimal
digits. Files that others wrote have none. Nothing in this file needs torch.
"""

import json
import struct
import zlib
from pathlib import Path

CHECKSUM = "toolkit_crc32"
_DIGITS = 8
_CHUNK = 1 << 20
_MAX_HEADER = 100_000_000  # the limit of the safetensors library


def has_checksum(path: Path) -> bool:
    """Whether a file carries a checksum; False for what is no safetensors file."""
    return _stored(_head(path)) is not None


def is_intact(path: Path) -> bool:
    """Whether a file has a checksum that fits its content."""
    head = _head(path)
    digits = _stored(head)
    if digits is None:
        return False
    with path.open("rb") as file:
        file.seek(len(head))
        found = zlib.crc32(head.replace(digits, b"0" * _DIGITS, 1))
        while chunk := file.read(_CHUNK):
            found = zlib.crc32(chunk, found)
    return digits == b"%08x" % found


def lacks_checksum(path: Path) -> bool:
    """Whether a file has the header that earlier versions wrote, without a checksum."""
    try:
        return bool(json.loads(_head(path)[8:])["__metadata__"] == {"format": "pt"})
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _head(path: Path) -> bytes:
    """Return length and header of a file, nothing where that cannot be."""
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else _MAX_HEADER + 1
        return first + file.read(length) if length <= _MAX_HEADER else b""


def _stored(head: bytes) -> bytes | None:
    try:
        value = json.loads(head[8:])["__metadata__"][CHECKSUM]
        digits = str(value).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return digits if len(digits) == _DIGITS else b"?" * _DIGITS
