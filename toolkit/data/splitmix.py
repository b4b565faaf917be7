"""SplitMix64 (Steele, Lea and Flood, 2014): the one random generator host and device share.

Output i of seed s is mix(s + (i + 1) * 0x9E3779B97F4A7C15) modulo 2**64.
"""

import numpy as np

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class SplitMix64:
    """A stream of 64-bit numbers; `next()` is one output, `below(n)` an unbiased integer."""

    def __init__(self, seed: int) -> None:
        self.state = seed & _MASK

    def next(self) -> int:
        """Return the next number, 0 <= x < 2**64."""
        self.state = (self.state + _GAMMA) & _MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """Return an unbiased integer, 0 <= x < bound.

        Outputs at or above the largest multiple of `bound` below 2**64 are drawn again, the rest
        taken modulo `bound`.
        """
        last = (1 << 64) - 1 - (1 << 64) % bound
        while (value := self.next()) > last:
            pass
        return value % bound


def splitmix64(seed: int, count: int) -> np.ndarray:
    """Return the first `count` outputs of `SplitMix64(seed)` as uint64 [count]."""
    with np.errstate(over="ignore"):
        index = np.arange(1, count + 1, dtype=np.uint64)
        z = np.uint64(seed & _MASK) + index * np.uint64(_GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
