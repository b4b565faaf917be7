"""Rows of tensors in a safetensors file, read without mapping it.

A mapping would count every page that was ever touched as this process's memory until it is closed.
Format: 8 bytes length, JSON {name: {dtype, shape, data_offsets}}, data.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import ToolkitError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_MAX_HEADER = 100_000_000  # the limit of the safetensors library


class SafetensorsFile:
    """Reads float tensors of one file.

    Raises:
        ToolkitError: The file cannot be read or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > _MAX_HEADER:
                    raise ValueError("header too long")
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            self._base = 8 + length
            self._size = path.stat().st_size
            self._entries = {name: self._entry(entry) for name, entry in header.items()}
        except OSError as error:
            raise ToolkitError(f"Cannot read {path}: {error.strerror}") from error
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ToolkitError(
                f"{path} is not a complete safetensors file", "Download or convert it again"
            ) from error

    def _entry(self, entry: dict[str, Any]) -> tuple[str, tuple[int, ...], int]:
        begin, end = (int(value) for value in entry["data_offsets"])
        shape = tuple(int(size) for size in entry["shape"])
        if begin < 0 or end < begin or self._base + end > self._size:
            raise ValueError("data outside the file")
        dtype = entry["dtype"]
        if dtype in _DTYPES and math.prod(shape) * _DTYPES[dtype].itemsize != end - begin:
            raise ValueError("size does not match shape")
        return dtype, shape, self._base + begin

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self._entries[name][1]

    def rows(self, name: str, begin: int, end: int) -> Tensor:
        """Return rows [begin, end) of a tensor's first dimension as float32."""
        dtype_name, shape, offset = self._entries[name]
        if dtype_name not in _DTYPES:
            raise ToolkitError(
                f"{name} in {self.path.name} has type {dtype_name}",
                f"Weights must be one of {', '.join(_DTYPES)}",
            )
        dtype = _DTYPES[dtype_name]
        row = math.prod(shape[1:]) * dtype.itemsize
        buffer = bytearray((end - begin) * row)
        with self.path.open("rb", buffering=0) as file:
            file.seek(offset + begin * row)
            view = memoryview(buffer)
            while view:
                count = file.readinto(view)
                if not count:
                    raise ToolkitError(f"{self.path} is shorter than before")
                view = view[count:]
        if not buffer:
            return torch.empty(0, *shape[1:])
        return torch.frombuffer(buffer, dtype=dtype).reshape(end - begin, *shape[1:]).float()
