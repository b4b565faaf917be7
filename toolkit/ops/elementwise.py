"""Operators without a reduction.

add     y = a + b
scale   y = factor x
"""

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
