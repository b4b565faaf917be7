"""Where the intermediate tensors of a method lie in its arena.

Every tensor is put at the lowest offset where nothing lies that lives at the same time. The order
in which tensors are placed decides how much is lost between them: some orders are tried, then
seeded random changes of the best, until no more is taken than lives at once.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

_ATTEMPTS = 400


@dataclass(frozen=True)
class Lifetime:
    """Bytes that are needed from operator `first` to operator `last`, both included."""

    size: int
    first: int
    last: int

    def meets(self, other: "Lifetime") -> bool:
        """Whether both are alive at some operator."""
        return self.first <= other.last and other.first <= self.last


def arrange(tensors: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Return an offset for every tensor and the bytes that all of them take."""
    everything = range(len(tensors))
    live = _most_alive(tensors)
    keys = (
        lambda i: (-tensors[i].size, tensors[i].first),
        lambda i: (-tensors[i].size, -tensors[i].first),
        lambda i: (tensors[i].first - tensors[i].last, -tensors[i].size),
        lambda i: (tensors[i].first, -tensors[i].size),
    )
    orders = [sorted(everything, key=key) for key in keys]
    best, order = min(((_place(tensors, o), o) for o in orders), key=lambda found: found[0][1])
    generator = random.Random(0)
    for _ in range(_ATTEMPTS):
        if best[1] <= live or len(order) < 2:
            break
        candidate = order.copy()
        candidate.insert(
            generator.randrange(len(order)), candidate.pop(generator.randrange(len(order)))
        )
        placed = _place(tensors, candidate)
        if placed[1] <= best[1]:
            order, best = candidate, placed
    return best


def _most_alive(tensors: Sequence[Lifetime]) -> int:
    return max(
        (sum(t.size for t in tensors if t.first <= tensor.first <= t.last) for tensor in tensors),
        default=0,
    )


def _place(tensors: Sequence[Lifetime], order: Sequence[int]) -> tuple[list[int], int]:
    offsets, end = [0] * len(tensors), 0
    done: list[int] = []
    for index in order:
        tensor, at = tensors[index], 0
        taken = sorted((offsets[i], tensors[i].size) for i in done if tensors[i].meets(tensor))
        for offset, size in taken:
            if at + tensor.size <= offset:
                break
            at = max(at, offset + size)
        offsets[index] = at
        done.append(index)
        end = max(end, at + tensor.size)
    return offsets, end
