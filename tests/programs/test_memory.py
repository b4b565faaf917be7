"""Arenas: nothing overlaps that lives at once, and little is lost between tensors."""

import random

import pytest

from toolkit.arrange import Lifetime, arrange


def alive_at_once(tensors: list[Lifetime]) -> int:
    steps = range(max(t.last for t in tensors) + 1)
    return max(sum(t.size for t in tensors if t.first <= s <= t.last) for s in steps)


@pytest.mark.parametrize("seed", range(20))
def test_tensors_that_live_at_once_do_not_overlap(seed):
    draw = random.Random(seed)
    tensors = []
    for _ in range(25):
        first = draw.randrange(30)
        tensors.append(Lifetime(16 * draw.randrange(1, 9), first, first + draw.randrange(12)))
    offsets, total = arrange(tensors)
    for i, a in enumerate(tensors):
        assert 0 <= offsets[i] <= total - a.size
        for j, b in enumerate(tensors[:i]):
            apart = offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
            assert apart or not a.meets(b)
    assert alive_at_once(tensors) <= total <= 1.1 * alive_at_once(tensors)
    assert arrange(tensors) == (offsets, total)  # an export gives the same bytes every time


def test_a_gap_between_long_lives_is_used():
    """Placing by size alone would put the last tensor behind the others."""
    tensors = [Lifetime(64, 0, 3), Lifetime(64, 2, 5), Lifetime(64, 4, 9), Lifetime(32, 0, 9)]
    assert arrange(tensors)[1] == alive_at_once(tensors) == 160


def test_nothing_takes_nothing():
    assert arrange([]) == ([], 0)
