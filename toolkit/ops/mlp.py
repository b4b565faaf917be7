"""Gated MLP as one operator, so that kernels can visit F in tiles and store nothing of size T x F.

    y = down(silu(gate(x)) * up(x))

where each of the three is a quantized linear layer, with or without a LoRA adapter (both or neither
of its a and b are given). The backward recomputes gate and up. In `fused_swiglu_mlp` gate and up
are the halves of one layer with one adapter: they share its a, and each has half of its b.
"""

from collections.abc import Callable

from torch import Tensor

from toolkit.ops.library import operator, weight
from toolkit.ops.linear import (
    lora_linear,
    lora_linear_backward,
    quantized_linear,
    quantized_linear_backward,
)
from toolkit.ops.saved import (
    gelu_mul,
    gelu_mul_backward,
    silu_mul,
    silu_mul_backward,
    swiglu,
    swiglu_backward,
)

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
Gate = Callable[[Tensor, Tensor], Tensor]
GateGradient = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
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


def _gated(x: Tensor, args: Arguments, activation: Gate) -> Tensor:
    gate, up, down = _layers(args)
    scaling = args[-1]
    act = activation(_linear(x, gate, scaling), _linear(x, up, scaling))
    return _linear(act, down, scaling)


def _gated_backward(
    grad: Tensor, x: Tensor, args: Arguments, activation: Gate, derivative: GateGradient
) -> tuple[Tensor, ...]:
    gate, up, down = _layers(args)
    scaling = args[-1]
    g, u = _linear(x, gate, scaling), _linear(x, up, scaling)
    dact, ddown_a, ddown_b = _linear_backward(grad, activation(g, u), down, scaling)
    dg, du = derivative(dact, g, u)
    dx_gate, dgate_a, dgate_b = _linear_backward(dg, x, gate, scaling)
    dx_up, dup_a, dup_b = _linear_backward(du, x, up, scaling)
    return dx_gate + dx_up, dgate_a, dgate_b, dup_a, dup_b, ddown_a, ddown_b


def _gradient_shapes(grad: Tensor, x: Tensor, *args: *Arguments) -> list[tuple[int, ...]]:
    adapters = ((0,) if adapter is None else adapter.shape for adapter in args[9:15])
    return [x.shape, *adapters]


_GRADIENTS = f"(Tensor dx, {', '.join(f'Tensor d{name}' for name in _ADAPTERS)})"


@operator(f"swiglu_mlp({_INPUTS}) -> (Tensor out)", shapes=lambda x, *_: [x.shape])
def swiglu_mlp(x: Tensor, *args: *Arguments) -> Tensor:
    """y [..., D] = down(silu(gate(x)) * up(x)), x [..., D].

    Further arguments: codes, scale, offset of gate and up [F, D] and down [D, F]; a, b of gate, up
    and down, each or None; the adapters' common scaling.
    """
    return _gated(x, args, silu_mul.reference)


@operator(f"swiglu_mlp_backward(Tensor grad, {_INPUTS}) -> {_GRADIENTS}", shapes=_gradient_shapes)
def swiglu_mlp_backward(grad: Tensor, x: Tensor, *args: *Arguments) -> tuple[Tensor, ...]:
    """(dx, dgate_a, dgate_b, dup_a, dup_b, ddown_a, ddown_b); shape [0] for an absent adapter."""
    return _gated_backward(grad, x, args, silu_mul.reference, silu_mul_backward.reference)


swiglu_mlp.gradient("x", *_ADAPTERS, formula=swiglu_mlp_backward)


@operator(f"geglu_mlp({_INPUTS}) -> (Tensor out)", shapes=lambda x, *_: [x.shape])
def geglu_mlp(x: Tensor, *args: *Arguments) -> Tensor:
    """The same with gelu by tanh in the place of silu."""
    return _gated(x, args, gelu_mul.reference)


@operator(f"geglu_mlp_backward(Tensor grad, {_INPUTS}) -> {_GRADIENTS}", shapes=_gradient_shapes)
def geglu_mlp_backward(grad: Tensor, x: Tensor, *args: *Arguments) -> tuple[Tensor, ...]:
    """The same as of swiglu_mlp."""
    return _gated_backward(grad, x, args, gelu_mul.reference, gelu_mul_backward.reference)


geglu_mlp.gradient("x", *_ADAPTERS, formula=geglu_mlp_backward)


_FUSED_ADAPTERS = [f"{layer}_{part}" for layer in ("gate_up", "down") for part in "ab"]
_FUSED_INPUTS = ", ".join(
    [
        f"Tensor x, {weight('gate_up')}, {weight('down')}",
        *(f"Tensor? {name}" for name in _FUSED_ADAPTERS),
        "float scaling",
    ]
)
FusedArguments = tuple[*Weight, *Weight, *Adapter, *Adapter, float]


@operator(f"fused_swiglu_mlp({_FUSED_INPUTS}) -> (Tensor out)", shapes=lambda x, *_: [x.shape])
def fused_swiglu_mlp(x: Tensor, *args: *FusedArguments) -> Tensor:
    """y [..., D] = down(silu(gate) * up) with (gate, up) = gate_up(x), x [..., D].

    Further arguments: codes, scale, offset of gate_up [2F, D] and down [D, F]; a, b of both, each
    or None; the adapters' common scaling.
    """
    gate_up, down = (args[0:3], args[6:8]), (args[3:6], args[8:10])
    return _linear(swiglu.reference(_linear(x, gate_up, args[-1])), down, args[-1])


@operator(
    f"fused_swiglu_mlp_backward(Tensor grad, {_FUSED_INPUTS}) -> (Tensor dx, "
    + ", ".join(f"Tensor d{name}" for name in _FUSED_ADAPTERS)
    + ")",
    shapes=lambda grad, x, *args: [
        x.shape,
        *((0,) if adapter is None else adapter.shape for adapter in args[6:10]),
    ],
)
def fused_swiglu_mlp_backward(
    grad: Tensor, x: Tensor, *args: *FusedArguments
) -> tuple[Tensor, ...]:
    """(dx, dgate_up_a, dgate_up_b, ddown_a, ddown_b); shape [0] for an absent adapter."""
    gate_up, down = (args[0:3], args[6:8]), (args[3:6], args[8:10])
    both = _linear(x, gate_up, args[-1])
    dact, *of_down = _linear_backward(grad, swiglu.reference(both), down, args[-1])
    return *_linear_backward(swiglu_backward.reference(dact, both), x, gate_up, args[-1]), *of_down


fused_swiglu_mlp.gradient("x", *_FUSED_ADAPTERS, formula=fused_swiglu_mlp_backward)
