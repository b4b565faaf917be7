"""The rule of the lowering `approx-bp` in plain PyTorch, and how far its gradients are from exact.

Written from the paper (arXiv 2406.16282) without the operators: a and c stand here once more.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

_SILU = (
    (-0.04060357190528599, -6.3050461001646445),
    (1.080925428529668, -0.0008684942046214787),
    (-0.040321856624382146, 6.325815242089708),
)
_GELU = (
    (-0.04922261145617846, -3.1858810036855245),
    (1.0979632065417297, -0.001178821281161997),
    (-0.048740595085551286, 3.190832613414926),
)
"""Pairs (a, c): from c on the slope is larger by a."""


class ApproximateFunction(torch.autograd.Function):
    """silu, or gelu by tanh, whose derivative is a sum of steps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, is_gelu: bool) -> Tensor:
        """Return the exact activation of x."""
        ctx.save_for_backward(x)
        ctx.steps = _GELU if is_gelu else _SILU
        return gelu(x, approximate="tanh") if is_gelu else silu(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return g times the steps up to x."""
        (x,), (grad,) = ctx.saved_tensors, grads
        slope = torch.zeros_like(x)
        for height, threshold in ctx.steps:
            slope = slope + height * (x > threshold).to(x)
        return grad * slope, None


class _Activation(nn.Module):
    def __init__(self, is_gelu: bool) -> None:
        super().__init__()
        self.is_gelu = is_gelu

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = ApproximateFunction.apply(x, self.is_gelu)  # type: ignore[no-untyped-call]
        return y


def approximate_activations(model: nn.Module, config: Any) -> None:
    """Give the MLPs of a `transformers` model the approximate rule."""
    name = getattr(config, "hidden_activation", None) or config.hidden_act
    for module in list(model.modules()):
        for child in ("act_fn", "activation_fn"):
            if isinstance(getattr(module, child, None), nn.Module):
                setattr(module, child, _Activation("gelu" in name))


@dataclass(frozen=True)
class Approximation:
    """An approximate gradient beside the exact one, over all adapter tensors together.

    Attributes:
        relative: Norm of the difference over the norm of the exact gradient.
        cosine: Of the angle between them.
    """

    relative: float
    cosine: float


def approximation(approximate: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> Approximation:
    """Return how far gradients are from exact ones of the same names."""
    pairs = [(approximate[name].double(), tensor.double()) for name, tensor in exact.items()]
    product = math.fsum(float((a * e).sum()) for a, e in pairs)
    ours, theirs, difference = (
        math.sqrt(math.fsum(float(v.square().sum()) for v in values))
        for values in ([a for a, _ in pairs], [e for _, e in pairs], [a - e for a, e in pairs])
    )
    return Approximation(difference / theirs, product / (ours * theirs))
