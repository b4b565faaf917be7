"""Writes FlatTensor (.ptd) files from bytes; needs no torch, which takes seconds to import.

Every tensor is a segment of its own. Behind them stand two small tensors that say what the file has
to hold, see `toolkit.bundle.checksums`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.bundle import flat_tensor_header
from toolkit.bundle.checksums import (
    CHECKSUMS,
    SHA256,
    SHA256_BYTES,
    SummingWriter,
    checksum_count,
)
from toolkit.bundle.flat_tensor_header import Entry
from toolkit.files import atomic_file

ALIGNMENT = 16384
"""Bytes; the largest page size of Android devices."""
UINT8, INT32, FLOAT32 = 0, 3, 6
"""ExecuTorch's numbers of scalar types."""
_OWN_ALIGNMENT = 64


@dataclass(frozen=True)
class Piece:
    """A tensor that is written later: ExecuTorch's scalar type number, and bytes of the data."""

    name: str
    scalar_type: int
    sizes: tuple[int, ...]
    nbytes: int


def write_pieces(
    path: str | Path,
    pieces: list[Piece],
    contents: Iterable[Iterable[bytes | memoryview]],
    alignment: int,
) -> bytes:
    """Write a file that appears under `path` only when it is complete.

    Args:
        path: The file.
        pieces: What will come, in the order of the file.
        contents: The bytes of every tensor in parts, in the same order.
        alignment: Every tensor starts at a multiple of this many bytes.

    Returns:
        SHA-256 of the content, as the file says it.
    """
    if len({SHA256, CHECKSUMS, *(piece.name for piece in pieces)}) != len(pieces) + 2:
        raise ValueError("two tensors have the same name")
    with atomic_file(path) as file:
        writer = SummingWriter(file)
        head = flat_tensor_header.encode(_entries(pieces, alignment), alignment)
        length = flat_tensor_header.head_length(head)
        writer.write([head[:length]])
        writer.pad(head[length:])
        for _, parts in zip(pieces, contents, strict=True):
            writer.pad_to(alignment)
            writer.write(parts)
        return writer.finish(_OWN_ALIGNMENT)


def write_float32(path: str | Path, arrays: Mapping[str, np.ndarray], alignment: int) -> bytes:
    """Write float32 arrays in their order, and return the SHA-256 of the content.

    Raises:
        ValueError: An array is of another type.
    """
    if wrong := next((name for name, v in arrays.items() if v.dtype != np.float32), None):
        raise ValueError(f"{wrong} is {arrays[wrong].dtype}, not float32")
    pieces = [Piece(name, FLOAT32, v.shape, v.nbytes) for name, v in arrays.items()]
    contents = ([np.ascontiguousarray(v).reshape(-1).view(np.uint8).data] for v in arrays.values())
    return write_pieces(path, pieces, contents, alignment)


def aligned(value: int, alignment: int) -> int:
    """Return the first multiple of `alignment` that is not below a value."""
    return -(-value // alignment) * alignment


def _entries(pieces: list[Piece], alignment: int) -> list[Entry]:
    """Return the places of all tensors, and of the two that stand behind them."""
    sums = checksum_count(len(pieces))
    own = [Piece(SHA256, UINT8, (SHA256_BYTES,), SHA256_BYTES)]
    own += [Piece(CHECKSUMS, INT32, (sums,), 4 * sums)]
    entries, end = [], 0
    for piece in [*pieces, *own]:
        offset = aligned(end, _OWN_ALIGNMENT if piece in own else alignment)
        entries.append(Entry(piece.name, piece.scalar_type, piece.sizes, offset, piece.nbytes))
        end = offset + piece.nbytes
    return entries
