"""How much of an approximate gradient rounding decides.

The lowering `approx-bp` gives every element of an MLP one of four slopes, by how many thresholds
are below its gate. An element whose gate lies within rounding of a threshold may have the slope of
either side, in the engine as in PyTorch, and these differ by up to 1.1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.data.samples import Rows
from toolkit.oracle.approximate import Activation
from toolkit.oracle.batch import loss_sum
from toolkit.oracle.gradients import compare, step_gradients

_DEVIATIONS = 4.0
"""How far off a gate may be, in root mean squares of what PyTorch's are off in its token."""


@dataclass(frozen=True)
class NearThresholds:
    """Elements whose gates lie within rounding of a threshold.

    Attributes:
        count: How many of all layers and rows.
        effects: By gradient tensor, how far off it is when all of them have the slope of the
            threshold's other side: norm of the difference over the tensor's norm.
    """

    count: int
    effects: dict[str, float]


def gates_of(model: Any, rows: Rows, indices: Iterable[int]) -> list[list[Tensor]]:
    """Return the gates of an approximate model by row and layer, each [1, T, F]."""
    found = []
    for index in indices:
        gates: list[Tensor] = []
        for activation in _activations(model):
            activation.seen = gates
        with torch.no_grad():
            loss_sum(model, rows, index)
        found.append(gates)
    return found


def near_thresholds(
    model: Any,
    gates: Sequence[Sequence[Tensor]],
    rows: Rows,
    indices: Sequence[int],
    plain: Mapping[str, Tensor],
    width: float = 1.0,
) -> NearThresholds:
    """Return the elements whose slopes rounding decides, and what they change.

    Args:
        model: In float64.
        gates: What `gates_of` returns for the same model in float32.
        plain: Gradients of `model` for these rows.
        width: How many times coarser than float32 the rounding is.
    """
    count, given = 0, iter(gates)

    def margin(gate: Tensor, rounded: Tensor) -> Tensor:
        off: Tensor = (gate - rounded).square().mean(-1, keepdim=True).sqrt()
        return _DEVIATIONS * width * off

    def prepare(_: int) -> None:
        for activation, rounded in zip(_activations(model), next(given), strict=True):
            activation.margin = lambda gate, rounded=rounded: margin(gate, rounded)

    try:
        turned = step_gradients(model, rows, indices, prepare)
    finally:
        for activation in _activations(model):
            activation.margin, count = None, count + activation.turned
    effects = {error.name: error.relative for error in compare(turned.tensors, plain)}
    return NearThresholds(count, effects)


def _activations(model: Any) -> list[Activation]:
    return [module for module in model.modules() if isinstance(module, Activation)]
