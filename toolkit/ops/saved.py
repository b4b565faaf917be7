"""Variants that keep what plain automatic differentiation keeps: operators of the lowering `mebp`.

What the forward of each saves beside its result is an output of its own, which its backward reads;
`mesp` has operators without, that compute it again (`linear`, `norm`, `attention`), and `mlp` for

    silu_mul    y = silu(gate) * up     dgate = g up (z + gate z (1 - z)), z = sigmoid(gate)
                                        dup = g silu(gate)
    gelu_mul    y = gelu(gate) * up     gelu(x) = x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), "tanh"
    swiglu      the first of the two halves of one tensor, gate before up

`normalize` is RMSNorm without its weight, the norm of the lowering `ms-bp` (MS-RMSNorm, arXiv
2406.16282): its backward reads what it returned, not what it was given.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from toolkit.ops.attention import INPUTS, SETTINGS, gradients, probabilities, weighted
from toolkit.ops.library import operator, weight
from toolkit.ops.linear import LORA, lora_gradients, lora_linear, output_shape
from toolkit.ops.norm import norm_gradient, rms_norm, rstd_of


@operator(
    f"lora_linear_saved(Tensor x, {LORA}) -> (Tensor y, Tensor h)",
    shapes=lambda x, codes, scale, offset, bias, a, *_: [
        output_shape(x, codes),
        (*x.shape[:-1], a.shape[0]),
    ],
)
def lora_linear_saved(
    x: Tensor,
    codes: Tensor,
    scale: Tensor,
    offset: Tensor | None,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """(y, h) with y as in `lora_linear` and h [..., R] = x a^T."""
    return lora_linear.reference(x, codes, scale, offset, bias, a, b, scaling), x @ a.T


@operator(
    f"lora_linear_saved_backward(Tensor grad, Tensor x, Tensor h, {weight()}, "
    "Tensor a, Tensor b, float scaling) -> (Tensor dx, Tensor da, Tensor db)",
    shapes=lambda grad, x, h, codes, scale, offset, a, b, scaling: [x.shape, a.shape, b.shape],
)
def lora_linear_saved_backward(
    grad: Tensor,
    x: Tensor,
    h: Tensor,
    codes: Tensor,
    scale: Tensor,
    offset: Tensor | None,
    a: Tensor,
    b: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, da, db), with h as the forward saved it."""
    return lora_gradients(grad, x, h, codes, scale, offset, a, b, scaling)


lora_linear_saved.gradient(
    *("x", "a", "b"),
    formula=lambda grad, x, codes, scale, offset, bias, *adapter, h: lora_linear_saved_backward(
        grad, x, h, codes, scale, offset, *adapter
    ),
    saved="h",
)


@operator(
    "rms_norm_saved(Tensor x, Tensor weight, float eps) -> (Tensor y, Tensor rstd)",
    shapes=lambda x, weight, eps: [x.shape, (*x.shape[:-1], x.shape[-1] // len(weight))],
)
def rms_norm_saved(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(y, rstd) with rstd [..., G] = 1 / sqrt(mean(x^2) + eps)."""
    return rms_norm.reference(x, weight, eps), rstd_of(x, weight, eps)


@operator(
    "rms_norm_saved_backward(Tensor grad, Tensor x, Tensor weight, Tensor rstd) -> (Tensor out)",
    shapes=lambda grad, x, weight, rstd: [x.shape],
)
def rms_norm_saved_backward(grad: Tensor, x: Tensor, weight: Tensor, rstd: Tensor) -> Tensor:
    """dx [..., D], with rstd [..., G] as the forward saved it."""
    return norm_gradient(grad, x, weight, rstd)


rms_norm_saved.gradient(
    "x",
    formula=lambda grad, x, weight, eps, rstd: rms_norm_saved_backward(grad, x, weight, rstd),
    saved="rstd",
)


@operator(
    "normalize(Tensor x, float eps) -> (Tensor y, Tensor rstd)",
    shapes=lambda x, eps: [x.shape, (*x.shape[:-1], 1)],
)
def normalize(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(y, rstd) with y [..., D] = x rstd and rstd [..., 1] = 1 / sqrt(mean(x^2) + eps)."""
    rstd = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    return x * rstd, rstd


@operator(
    "normalize_backward(Tensor grad, Tensor y, Tensor rstd) -> (Tensor out)",
    shapes=lambda grad, y, rstd: [grad.shape],
)
def normalize_backward(grad: Tensor, y: Tensor, rstd: Tensor) -> Tensor:
    """dx [..., D] = rstd (g - y mean(g y)): what went in need not be kept."""
    return rstd * (grad - y * (grad * y).mean(-1, keepdim=True))


def _normalize_gradient(grad: Tensor, x: Tensor, eps: float, y: Tensor, rstd: Tensor) -> Tensor:
    return normalize_backward(grad, y, rstd)


normalize.gradient("x", formula=_normalize_gradient, saved=("y", "rstd"))


@operator(
    f"attention_saved({INPUTS}, {SETTINGS}) -> (Tensor out, Tensor probs)",
    shapes=lambda q, k, v, start, heads, *_: [q.shape, (heads, q.shape[1], q.shape[1])],
)
def attention_saved(
    q: Tensor, k: Tensor, v: Tensor, start: Tensor, heads: int, kv_heads: int, scale: float
) -> tuple[Tensor, Tensor]:
    """(out, probs) with probs [H, T, T]; otherwise as `attention`."""
    probs = probabilities(q, k, start, heads, kv_heads, scale)
    return weighted(probs, v, heads, kv_heads), probs


@operator(
    f"attention_saved_backward(Tensor grad, {INPUTS}, Tensor probs, {SETTINGS})"
    " -> (Tensor dq, Tensor dk, Tensor dv)",
    shapes=lambda grad, q, k, v, *_: [q.shape, k.shape, v.shape],
)
def attention_saved_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    probs: Tensor,
    start: Tensor,
    heads: int,
    kv_heads: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv), with probs [H, T, T] as the forward saved them."""
    return gradients(grad, q, k, v, probs, heads, kv_heads, scale)


attention_saved.gradient(
    *("q", "k", "v"),
    formula=lambda grad, q, k, v, *settings, probs: attention_saved_backward(
        grad, q, k, v, probs, *settings
    ),
    saved="probs",
)


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


@operator("gelu_mul(Tensor gate, Tensor up) -> (Tensor out)", shapes=lambda gate, up: [gate.shape])
def gelu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """y = gelu(gate) * up, all of one shape."""
    return gelu(gate, approximate="tanh") * up


@operator(
    "gelu_mul_backward(Tensor grad, Tensor gate, Tensor up) -> (Tensor dgate, Tensor dup)",
    shapes=lambda grad, gate, up: [gate.shape, up.shape],
)
def gelu_mul_backward(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """(dgate, dup)."""
    twice, square = 2 * math.sqrt(2 / math.pi), 0.044715 * gate.square()
    z = (twice * gate * (1 + square)).sigmoid()
    slope = z + gate * z * (1 - z) * twice * (1 + 3 * square)
    return grad * up * slope, grad * gate * z


gelu_mul.gradient("gate", "up", formula=gelu_mul_backward)


@operator(
    "swiglu(Tensor gate_up) -> (Tensor out)",
    shapes=lambda gate_up: [(*gate_up.shape[:-1], gate_up.shape[-1] // 2)],
)
def swiglu(gate_up: Tensor) -> Tensor:
    """y [..., F] = silu(gate) * up with gate_up [..., 2F] = (gate, up)."""
    return silu_mul.reference(*gate_up.chunk(2, -1))


@operator(
    "swiglu_backward(Tensor grad, Tensor gate_up) -> (Tensor out)",
    shapes=lambda grad, gate_up: [gate_up.shape],
)
def swiglu_backward(grad: Tensor, gate_up: Tensor) -> Tensor:
    """(dgate, dup) as [..., 2F]."""
    return torch.cat(silu_mul_backward.reference(grad, *gate_up.chunk(2, -1)), -1)


swiglu.gradient("gate_up", formula=swiglu_backward)
