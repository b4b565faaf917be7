"""The rule of the lowering `approx-bp` in plain PyTorch, and how far its gradients are from exact.

Written from the paper (arXiv 2406.16282) without the operators: a and c stand here once more.
"""

import math
from collections.abc import Callable, Mapping
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
    def forward(ctx: Any, x: Tensor, is_gelu: bool, margin: Tensor | None = None) -> Tensor:
        """Return the exact activation of x; within `margin` of a step its other side counts."""
        ctx.save_for_backward(x, margin)
        ctx.steps = _GELU if is_gelu else _SILU
        return gelu(x, approximate="tanh") if is_gelu else silu(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Return g times the steps up to x."""
        (x, margin), (grad,) = ctx.saved_tensors, grads
        slope = torch.zeros_like(x)
        for height, threshold in ctx.steps:
            above = x > threshold
            if margin is not None:
                above = above ^ ((x - threshold).abs() <= margin)
            slope = slope + height * above.to(x)
        return grad * slope, None, None


class Activation(nn.Module):
    """An MLP's activation with the approximate rule.

    Attributes:
        seen: What it is given is appended here; None: to nothing.
        margin: From a gate to how close to a threshold it counts to the other side; None: none do.
        turned: Elements that did so.
    """

    def __init__(self, is_gelu: bool) -> None:
        super().__init__()
        self.is_gelu = is_gelu
        self.seen: list[Tensor] | None = None
        self.margin: Callable[[Tensor], Tensor] | None = None
        self.turned = 0

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of gates x [..., F]."""
        gate, margin = x.detach(), None
        if self.seen is not None:
            self.seen.append(gate)
        if self.margin is not None:
            margin = self.margin(gate)
            steps = _GELU if self.is_gelu else _SILU
            self.turned += sum(int(((gate - c).abs() <= margin).sum()) for _, c in steps)
        y: Tensor = ApproximateFunction.apply(x, self.is_gelu, margin)  # type: ignore[no-untyped-call]
        return y


def approximate_activations(model: nn.Module, config: Any) -> None:
    """Give the MLPs of a `transformers` model the approximate rule."""
    name = getattr(config, "hidden_activation", None) or config.hidden_act
    for module in list(model.modules()):
        for child in ("act_fn", "activation_fn"):
            if isinstance(getattr(module, child, None), nn.Module):
                setattr(module, child, Activation("gelu" in name))


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
