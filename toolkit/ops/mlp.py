"""SwiGLU MLP as one operator, so that kernels can visit F in tiles and store nothing of size T x F.

    y = down(silu(gate(x)) * up(x))

where each of the three is a quantized linear layer, with or without a LoRA adapter (both or neither
of its a and b are given). The backward recomputes gate and up.
"""

from torch import Tensor

from toolkit.ops.library import operator, weight
from toolkit.ops.linear import (
    lora_linear,
    lora_linear_backward,
    quantized_linear,
    quantized_linear_backward,
)
from toolkit.ops.saved import silu_mul, silu_mul_backward

_LAYERS = ("gate", "up", "down")
_ADAPTERS = [f"{layer}_{part}" for layer in _LAYERS for part in "ab"]
_INPUTS = ", ".join(
    [
        "Tensor x",
        *(weight(layer) for layer in _LAYERS),
        *(f"Tensor? {name}" for name in _ADAPTERS),
        "float scaling",
    ]
)

Weight = tuple[Tensor, Tensor, Tensor | None]
Adapter = tuple[Tensor | None, Tensor | None]
Layer = tuple[Weight, Adapter]
Arguments = tuple[*Weight, *Weight, *Weight, *Adapter, *Adapter, *Adapter, float]


def _layers(args: Arguments) -> tuple[Layer, Layer, Layer]:
    """Sort the nine weight tensors and six adapter tensors by layer: gate, up, down."""
    return (args[0:3], args[9:11]), (args[3:6], args[11:13]), (args[6:9], args[13:15])


def _linear(x: Tensor, layer: Layer, scaling: float) -> Tensor:
    codes_scale_offset, (a, b) = layer
    if a is None or b is None:
        return quantized_linear.reference(x, *codes_scale_offset, None)
    return lora_linear.reference(x, *codes_scale_offset, None, a, b, scaling)


def _linear_backward(
    grad: Tensor, x: Tensor, layer: Layer, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, da, db), the last two of shape [0] without an adapter."""
    codes_scale_offset, (a, b) = layer
    if a is None or b is None:
        dx = quantized_linear_backward.reference(grad, *codes_scale_offset)
        return dx, x.new_empty(0), x.new_empty(0)
    return lora_linear_backward.reference(grad, x, *codes_scale_offset, a, b, scaling)


@operator(f"swiglu_mlp({_INPUTS}) -> (Tensor out)", shapes=lambda x, *_: [x.shape])
def swiglu_mlp(x: Tensor, *args: *Arguments) -> Tensor:
    """y [..., D] = down(silu(gate(x)) * up(x)), x [..., D].

    Further arguments: codes, scale, offset of gate and up [F, D] and down [D, F]; a, b of gate, up
    and down, each or None; the adapters' common scaling.
    """
    gate, up, down = _layers(args)
    scaling = args[-1]
    act = silu_mul.reference(_linear(x, gate, scaling), _linear(x, up, scaling))
    return _linear(act, down, scaling)


@operator(
    f"swiglu_mlp_backward(Tensor grad, {_INPUTS}) -> (Tensor dx, "
    + ", ".join(f"Tensor d{name}" for name in _ADAPTERS)
    + ")",
    shapes=lambda grad, x, *args: [
        x.shape,
        *((0,) if adapter is None else adapter.shape for adapter in args[9:15]),
    ],
)
def swiglu_mlp_backward(grad: Tensor, x: Tensor, *args: *Arguments) -> tuple[Tensor, ...]:
    """(dx, dgate_a, dgate_b, dup_a, dup_b, ddown_a, ddown_b); shape [0] for an absent adapter."""
    gate, up, down = _layers(args)
    scaling = args[-1]
    g, u = _linear(x, gate, scaling), _linear(x, up, scaling)
    dact, ddown_a, ddown_b = _linear_backward(grad, silu_mul.reference(g, u), down, scaling)
    dg, du = silu_mul_backward.reference(dact, g, u)
    dx_gate, dgate_a, dgate_b = _linear_backward(dg, x, gate, scaling)
    dx_up, dup_a, dup_b = _linear_backward(du, x, up, scaling)
    return dx_gate + dx_up, dgate_a, dgate_b, dup_a, dup_b, ddown_a, ddown_b


swiglu_mlp.gradient("x", *_ADAPTERS, formula=swiglu_mlp_backward)
