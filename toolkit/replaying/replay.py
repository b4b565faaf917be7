"""From a list of estimates and the adapter that a run started from to the one it ended with.

The update of a step is, for every element of a trained tensor, in float32 operations,

    p = p keep + factor z,  keep = 1 - lr weight_decay,  factor = -(lr g) / queries

of those elements whose magnitude is not above their tensor's limit, with the factor of B multiplied
by the ratio of LoRA+, for one direction after the other (keep is then 1), and z as
`runtime/engine/training/directions.h` numbers its streams.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from toolkit.layers import parse_layers
from toolkit.replaying.estimates import Estimate, Estimates
from toolkit.replaying.normals import normals

Progress = Callable[[int, int], None]
_QUERY = 1 << 16


@dataclass(frozen=True)
class Place:
    """Where a tensor of an adapter is: its layer, its number there, and whether it is a B."""

    layer: int
    number: int
    is_b: bool

    def stream(self, step: int, query: int) -> tuple[int, int, int]:
        """Return the counter of the tensor's normals; steps count from 1, queries from 0."""
        return (self.number + query * _QUERY, self.layer, step)


def places(names: Iterable[str]) -> dict[str, Place]:
    """Return the place of every tensor; names are those of adapter.ptd."""
    by_layer: dict[int, list[str]] = {}
    for name in names:
        by_layer.setdefault(int(name.split(".")[1]), []).append(name)
    return {
        name: Place(layer, number, ".lora_B." in name)
        for layer, own in by_layer.items()
        for number, name in enumerate(sorted(own))
    }


def replay(
    estimates: Estimates,
    start: Mapping[str, np.ndarray],
    layers: int,
    steps: int,
    progress: Progress = lambda done, total: None,
) -> dict[str, np.ndarray]:
    """Return the adapter after so many steps, bit by bit the run's.

    Args:
        estimates: Of the run.
        start: The adapter it started from, float32 by name, as in adapter.ptd.
        layers: Of the model.
        steps: At most those of the list.
        progress: Called with tensors done and all of them.
    """
    wanted = estimates.layers
    trained = set(range(layers) if wanted == "all" else parse_layers(wanted, layers))
    result = {name: np.array(values, np.float32) for name, values in start.items()}
    for done, (name, place) in enumerate(places(start).items(), 1):
        if place.layer in trained and (place.is_b or not estimates.b_alone):
            flat = result[name].reshape(-1)
            limit = limit_of(flat, estimates.sparsity)
            for estimate in estimates.steps[:steps]:
                apply(estimate, estimates.seed, place, flat, limit)
        progress(done, len(result))
    return result


def limit_of(values: np.ndarray, sparsity: float) -> np.float32:
    """Return the magnitude above which values stay as they are, infinite where none does.

    A share 1 - sparsity of the values is not above it. Where that would be zero, as of a B that is
    new, all move.
    """
    chosen = max(1, math.ceil((1 - sparsity) * values.size))
    limit = np.partition(np.abs(values).reshape(-1), chosen - 1)[chosen - 1]
    return np.float32(np.inf) if chosen >= values.size or limit == 0 else limit


def apply(
    estimate: Estimate, seed: int, place: Place, values: np.ndarray, limit: np.float32
) -> None:
    """Change a tensor's values, float32 [elements], as a step did."""
    for query, (keep, factor_a, factor_b) in enumerate(moves(estimate)):
        z = normals(seed, place.stream(estimate.step, query), len(values))
        moved = values * keep + (factor_b if place.is_b else factor_a) * z
        values[:] = np.where(np.abs(values) <= limit, moved, values)


def moves(estimate: Estimate) -> Iterator[tuple[np.float32, np.float32, np.float32]]:
    """Yield `keep`, and `factor` of A and of B, for one direction of a step after the other."""
    queries = len(estimate.slopes)
    for query, slope in enumerate(estimate.slopes):
        factor = -(estimate.lr * slope) / queries
        keep = 1 - estimate.lr * estimate.weight_decay if query == 0 else 1.0
        yield np.float32(keep), np.float32(factor), np.float32(factor * estimate.lora_plus_ratio)
