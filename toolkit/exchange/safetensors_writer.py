"""safetensors files written a run of rows at a time: no model is ever whole in memory.

Format: 8 bytes length, JSON {name: {dtype, shape, data_offsets}}, data.
"""

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from toolkit.files import atomic_file

DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_ALIGNMENT = 8


@dataclass(frozen=True)
class Entry:
    """A tensor to write: its name in the file, shape, and what yields its rows in order."""

    name: str
    shape: tuple[int, ...]
    rows: Callable[[], Iterable[Tensor]]

    def nbytes(self, dtype: torch.dtype) -> int:
        """Return its size in the file."""
        return math.prod(self.shape) * dtype.itemsize


def shards(entries: list[Entry], dtype: torch.dtype, limit: int) -> list[list[Entry]]:
    """Return the entries in order, divided so that no file has more than `limit` bytes of data."""
    found: list[list[Entry]] = [[]]
    filled = 0
    for entry in entries:
        size = entry.nbytes(dtype)
        if found[-1] and filled + size > limit:
            found.append([])
            filled = 0
        found[-1].append(entry)
        filled += size
    return found


def write_model(
    directory: Path,
    entries: list[Entry],
    dtype: torch.dtype,
    *,
    shard_bytes: int,
    on_bytes: Callable[[int], None],
) -> None:
    """Write model.safetensors, or shards of it and their index, as `transformers` names them."""
    parts = shards(entries, dtype, shard_bytes)
    if len(parts) == 1:
        write_safetensors(directory / "model.safetensors", parts[0], dtype, on_bytes)
        return
    weight_map: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        write_safetensors(directory / name, part, dtype, on_bytes)
        weight_map |= {entry.name: name for entry in part}
    total = sum(entry.nbytes(dtype) for entry in entries)
    with atomic_file(directory / "model.safetensors.index.json", "w") as file:
        json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, file, indent=2)


def write_safetensors(
    path: Path, entries: list[Entry], dtype: torch.dtype, on_bytes: Callable[[int], None]
) -> None:
    """Write one file.

    Raises:
        ToolkitError: What yields a tensor's rows does.
    """
    with atomic_file(path) as file:
        file.write(_header(entries, dtype))
        for entry in entries:
            written = 0
            for rows in entry.rows():
                data = rows.to(dtype).contiguous().view(torch.uint8).numpy()
                file.write(data.data)
                written += data.nbytes
                on_bytes(data.nbytes)
            if written != entry.nbytes(dtype):
                raise ValueError(f"{entry.name} has {written} bytes, not {entry.nbytes(dtype)}")


def _header(entries: Iterable[Entry], dtype: torch.dtype) -> bytes:
    header: dict[str, Mapping[str, object]] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        end = offset + entry.nbytes(dtype)
        header[entry.name] = {
            "dtype": DTYPES[dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
