"""Write and read FlatTensor (.ptd) files one tensor at a time.

Every tensor is a segment of its own, aligned to 16 KiB: a page on every Android device, so that
any run of tensors can be mapped and released on its own. Behind them stand two small tensors that
say what the file has to hold, see `toolkit.bundle.checksums`; readers here do not list them.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.bundle import flat_tensor_header
from toolkit.bundle.checksums import CHECKSUMS, SHA256
from toolkit.bundle.flat_tensor_header import Entry
from toolkit.bundle.flat_tensor_writer import ALIGNMENT, Piece, aligned, write_pieces
from toolkit.errors import ToolkitError

_SCALAR_TYPES = {
    torch.uint8: 0,
    torch.int8: 1,
    torch.int16: 2,
    torch.int32: 3,
    torch.int64: 4,
    torch.float16: 5,
    torch.float32: 6,
    torch.float64: 7,
    torch.bool: 11,
    torch.bfloat16: 15,
}
_DTYPES = {number: dtype for dtype, number in _SCALAR_TYPES.items()}
_WRITE_CHUNK = 1 << 24
_OWN = (SHA256, CHECKSUMS)


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype of a tensor that is written later."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's data."""
        return math.prod(self.shape) * self.dtype.itemsize


def flat_tensor_bytes(specs: Iterable[TensorSpec], alignment: int = ALIGNMENT) -> int:
    """Return about how many bytes a file with these tensors has, padding included."""
    specs = list(specs)
    data = sum(aligned(spec.nbytes, alignment) for spec in specs)
    return data + aligned(132 * (len(specs) + 3), alignment)


def write_flat_tensor(
    path: str | Path,
    specs: Iterable[TensorSpec],
    tensors: Iterable[Tensor],
    alignment: int = ALIGNMENT,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Write a .ptd file that appears under `path` only when it is complete.

    The head is computed from `specs` alone; each tensor is taken from the iterator, written and
    let go before the next is asked for.

    Args:
        path: The file.
        specs: What will come, in the order of the file.
        tensors: Tensors of exactly these shapes and dtypes, in the same order.
        alignment: Every tensor starts at a multiple of this many bytes.
        on_bytes: Called with the number of data bytes just written.

    Raises:
        ValueError: A tensor does not match its spec, or their numbers differ.
    """
    specs = list(specs)
    pieces = [
        Piece(spec.name, _SCALAR_TYPES[spec.dtype], tuple(map(int, spec.shape)), spec.nbytes)
        for spec in specs
    ]

    def contents() -> Iterator[Iterator[bytes | memoryview]]:
        for spec, tensor in zip(specs, tensors, strict=True):
            if tuple(tensor.shape) != tuple(spec.shape) or tensor.dtype != spec.dtype:
                raise ValueError(
                    f"{spec.name}: expected {spec.dtype} {spec.shape}, "
                    f"got {tensor.dtype} {tuple(tensor.shape)}"
                )
            yield _chunks(tensor, on_bytes)

    write_pieces(path, pieces, contents(), alignment)


class FlatTensorReader:
    """A memory-mapped .ptd file.

    Tensors share the mapping: reading them costs page cache, not memory of their own. Writing to
    one changes this process's copy only.

    Raises:
        ToolkitError: The file is absent, damaged or holds a type that is not known.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._size = self.path.stat().st_size
            with self.path.open("rb") as file:
                first = file.read(64)
                length = flat_tensor_header.head_length(first)
                file.seek(0)
                head = file.read(min(length, self._size))
        except OSError as error:
            raise ToolkitError(f"Cannot read {self.path}: {error.strerror}") from error
        except ToolkitError as error:
            raise self._named(error) from None
        try:
            self._entries = flat_tensor_header.decode(head, self._size)
        except ToolkitError as error:
            raise self._named(error) from None
        for entry in self._entries.values():
            if entry.scalar_type not in _DTYPES:
                raise ToolkitError(f"{self.path}: tensor {entry.name!r} has an unknown type")
            if self.spec(entry.name).nbytes != entry.nbytes:
                raise ToolkitError(
                    f"{self.path}: size of tensor {entry.name!r} does not match its shape",
                    "Make the file again",
                )
        self._data = np.memmap(self.path, mode="c") if self._entries else None

    def _named(self, error: ToolkitError) -> ToolkitError:
        return ToolkitError(f"{self.path}: {error.cause}", error.remedy)

    def keys(self) -> list[str]:
        """Return the tensors' names in the order of the file."""
        names = (name for name in self._entries if name not in _OWN)
        return sorted(names, key=lambda name: self._entries[name].offset)

    def sha256(self) -> bytes:
        """Return what the file says is the SHA-256 of its content."""
        return self.tensor(SHA256).numpy().tobytes()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self._entries and name not in _OWN

    def spec(self, name: str) -> TensorSpec:
        """Return shape and dtype of a tensor."""
        entry = self._entry(name)
        return TensorSpec(name, entry.sizes, _DTYPES[entry.scalar_type])

    def specs(self) -> list[TensorSpec]:
        """Return shape and dtype of all tensors in the order of the file."""
        return [self.spec(name) for name in self.keys()]

    def offset(self, name: str) -> int:
        """Return where in the file the tensor's data begins, in bytes."""
        return self._entry(name).offset

    def tensor(self, name: str) -> Tensor:
        """Return a tensor backed by the mapping."""
        entry, spec = self._entry(name), self.spec(name)
        if not entry.nbytes:
            return torch.empty(spec.shape, dtype=spec.dtype)
        count = math.prod(spec.shape)
        flat = torch.frombuffer(self._data, dtype=spec.dtype, count=count, offset=entry.offset)
        return flat.reshape(spec.shape)

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            raise ToolkitError(f"{self.path} has no tensor {name!r}", "Make the file again")
        return self._entries[name]


def _chunks(tensor: Tensor, on_bytes: Callable[[int], None] | None) -> Iterator[bytes | memoryview]:
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    for start in range(0, len(data), _WRITE_CHUNK):
        chunk = data[start : start + _WRITE_CHUNK]
        yield chunk.data
        if on_bytes is not None:
            on_bytes(len(chunk))
