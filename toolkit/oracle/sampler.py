"""The order in which the trainer visits samples, the same on host and device.

Epoch e visits a permutation of 0..n-1: Fisher-Yates from the identity, for i = n-1 down to 1 swap
element i with element below(i + 1), numbers from SplitMix64 seeded with seed + e.
"""

from collections.abc import Iterator

from toolkit.data.splitmix import SplitMix64


def permutation(samples: int, seed: int, epoch: int) -> list[int]:
    """Return the order of samples 0..samples-1 in an epoch (0-based)."""
    order = list(range(samples))
    random = SplitMix64(seed + epoch)
    for i in range(samples - 1, 0, -1):
        j = random.below(i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def sample_indices(samples: int, seed: int, order: str) -> Iterator[int]:
    """Yield sample indices without end; `order` is "shuffled" or "sequential"."""
    epoch = 0
    while True:
        yield from range(samples) if order == "sequential" else permutation(samples, seed, epoch)
        epoch += 1
