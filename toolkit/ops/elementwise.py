"""Operators without a reduction.

silu_mul    y = silu(gate) * up     dgate = g up (z + gate z (1 - z)), z = sigmoid(gate)
                                    dup = g silu(gate)
add         y = a + b
scale       y = factor x
"""

from torch import Tensor
from torch.nn.functional import silu

from toolkit.ops.library import operator


@operator("silu_mul(Tensor gate, Tensor up) -> (Tensor out)", shapes=lambda gate, up: [gate.shape])
def silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """y = silu(gate) * up, all of one shape."""
    return silu(gate) * up


@operator(
    "silu_mul_backward(Tensor grad, Tensor gate, Tensor up) -> (Tensor dgate, Tensor dup)",
    shapes=lambda grad, gate, up: [gate.shape, up.shape],
)
def silu_mul_backward(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """(dgate, dup)."""
    sigmoid = gate.sigmoid()
    return grad * up * (sigmoid + gate * sigmoid * (1 - sigmoid)), grad * gate * sigmoid


silu_mul.gradient("gate", "up", formula=silu_mul_backward)


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
