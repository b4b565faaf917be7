"""Operators without a reduction.

add             y = a + b
multiply        y = a b
scale           y = factor x
scale_features  y = w x, w [D] for the features of every row
halves, joined  the two halves of every row, and a row of two halves
"""

import torch
from torch import Tensor

from toolkit.ops.library import operator


@operator("add(Tensor a, Tensor b) -> (Tensor out)", shapes=lambda a, b: [a.shape])
def add(a: Tensor, b: Tensor) -> Tensor:
    """y = a + b, all of one shape."""
    return a + b


add.gradient("a", "b", formula=lambda grad, a, b: (grad, grad))


@operator("scale(Tensor x, Tensor factor) -> (Tensor out)", shapes=lambda x, factor: [x.shape])
def scale(x: Tensor, factor: Tensor) -> Tensor:
    """y = factor x, factor a tensor of shape []; differentiable in x only."""
    return x * factor


scale.gradient("x", formula=lambda grad, x, factor: scale(grad, factor))


@operator("multiply(Tensor a, Tensor b) -> (Tensor out)", shapes=lambda a, b: [a.shape])
def multiply(a: Tensor, b: Tensor) -> Tensor:
    """y = a b, all of one shape."""
    return a * b


multiply.gradient("a", "b", formula=lambda grad, a, b: (multiply(grad, b), multiply(grad, a)))


@operator(
    "scale_features(Tensor x, Tensor weight) -> (Tensor out)", shapes=lambda x, weight: [x.shape]
)
def scale_features(x: Tensor, weight: Tensor) -> Tensor:
    """y [..., D] = x [..., D] weight [D]; differentiable in x only."""
    return weight.to(x.dtype) * x


scale_features.gradient("x", formula=lambda grad, x, weight: scale_features(grad, weight))


def _half(x: Tensor) -> tuple[int, ...]:
    return (*x.shape[:-1], x.shape[-1] // 2)


@operator(
    "halves(Tensor x) -> (Tensor first, Tensor second)", shapes=lambda x: [_half(x), _half(x)]
)
def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """(first, second) [..., F] each of x [..., 2F]."""
    first, second = x.chunk(2, -1)
    return first, second


@operator(
    "joined(Tensor first, Tensor second) -> (Tensor out)",
    shapes=lambda first, second: [(*first.shape[:-1], 2 * first.shape[-1])],
)
def joined(first: Tensor, second: Tensor) -> Tensor:
    """y [..., 2F] of first and second [..., F]."""
    return torch.cat((first, second), -1)


halves.gradient("x", formula=lambda first, second, x: joined(first, second), outputs=2)
joined.gradient("first", "second", formula=lambda grad, first, second: halves(grad))
