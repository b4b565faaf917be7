"""The kernels' scratch memory: the allocator of runtime/kernels/workspace.cc, on numbers.

The workspace grows to what the largest operator needs and keeps its size. Pages count as resident
once an operator has used them; growing replaces the whole block, and with it what was resident.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_ALIGNMENT = 64
_GRANULE = 64 * 1024


@dataclass
class _Chunk:
    size: int
    used: int = 0
    touched: int = 0


class Workspace:
    """Follows allocations; sizes in bytes."""

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        self._depth = 0

    @property
    def bytes(self) -> int:
        """What the workspace holds, the engine's ledger category "scratch"."""
        return sum(chunk.size for chunk in self._chunks)

    @property
    def resident(self) -> int:
        """What of it has been used and therefore takes memory."""
        return sum(chunk.touched for chunk in self._chunks)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Release what is allocated inside at the end, as the C++ class Scratch does."""
        self._depth += 1
        kept, used = len(self._chunks), self._chunks[-1].used if self._chunks else 0
        yield
        for chunk in self._chunks[kept:]:
            chunk.used = 0
        if kept:
            self._chunks[kept - 1].used = used
        self._depth -= 1
        if not self._depth and len(self._chunks) > 1:
            self._chunks = [_Chunk(_round_up(self.bytes, _GRANULE))]

    def floats(self, count: int) -> None:
        """Allocate `count` floats until the scope ends."""
        size = _round_up(max(count, 1) * 4, _ALIGNMENT)
        if not self._chunks or self._chunks[-1].used + size > self._chunks[-1].size:
            self._chunks.append(_Chunk(_round_up(size, _GRANULE)))
        chunk = self._chunks[-1]
        chunk.used += size
        chunk.touched = max(chunk.touched, chunk.used)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
