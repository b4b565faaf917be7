"""Seeded random weights of a model's shape, for work on size and speed without the model."""

import hashlib

import torch
from torch import Tensor
from transformers import PretrainedConfig

from toolkit.sources.base import Source

_BLOCK = 256
"""Rows that share a generator, which makes any run of rows readable on its own."""


class RandomSource(Source):
    """Matrices and biases are normal with the configuration's initializer_range, norms near one.

    Every block of 256 rows has a generator of its own, seeded with SHA-256 of seed, tensor name and
    block number, so that a weight does not depend on what was read before it.

    Args:
        config: Shape of the model.
        shapes: Shape of every parameter, by name.
        name: What to call it.
        seed: Seed of all weights.
    """

    is_random = True

    def __init__(
        self, config: PretrainedConfig, shapes: dict[str, tuple[int, ...]], name: str, seed: int
    ) -> None:
        self.config = config
        self.name = name
        self.origin = f"random weights of the shape of {name}, seed {seed}"
        self.export_words = ("--random-weights", name, "--seed", str(seed))
        self._shapes = shapes
        self._seed = seed

    def names(self) -> list[str]:
        return list(self._shapes)

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self._shapes.get(name)

    def rows(self, name: str, begin: int, end: int) -> Tensor:
        shape = self.require(name)
        result = torch.empty(end - begin, *shape[1:])
        for block in range(begin // _BLOCK, -(-end // _BLOCK)):
            first = block * _BLOCK
            values = self._block(name, block, (min(_BLOCK, shape[0] - first), *shape[1:]))
            low, high = max(begin, first), min(end, first + len(values))
            result[low - begin : high - begin] = values[low - first : high - first]
        return result

    def _block(self, name: str, block: int, shape: tuple[int, ...]) -> Tensor:
        key = hashlib.sha256(f"{self._seed}/{name}/{block}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little", signed=True))
        values = torch.randn(shape, generator=generator)
        if name.endswith("norm.weight"):
            return values.mul_(0.1).add_(1)
        return values.mul_(getattr(self.config, "initializer_range", 0.02))
