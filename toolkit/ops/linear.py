"""Linear layers with a frozen quantized weight W [N, K], with and without a LoRA adapter.

    y  = x W^T + bias + s h b^T     with h = x a^T [..., R], a [R, K], b [N, R], s = alpha / R
    dx = g W + dh a                 with dh = s g b
    da = dh^T x
    db = s g^T h

`lora_linear` recomputes h in its backward (MeSP, arXiv 2602.13069).
"""

from torch import Tensor

from toolkit.ops.library import operator, weight
from toolkit.quantization.packing import dequantize, shape_of

LORA = f"{weight()}, Tensor? bias, Tensor a, Tensor b, float scaling"


def output_shape(x: Tensor, codes: Tensor) -> tuple[int, ...]:
    return (*x.shape[:-1], shape_of(codes)[0])


def _input_shape(grad: Tensor, codes: Tensor) -> tuple[int, ...]:
    return (*grad.shape[:-1], shape_of(codes)[1])


def rows(x: Tensor) -> Tensor:
    """Flatten all dimensions but the last."""
    return x.reshape(-1, x.shape[-1])


@operator(
    f"quantized_linear(Tensor x, {weight()}, Tensor? bias) -> (Tensor out)",
    shapes=lambda x, codes, *_: [output_shape(x, codes)],
)
def quantized_linear(
    x: Tensor, codes: Tensor, scale: Tensor, offset: Tensor | None, bias: Tensor | None
) -> Tensor:
    """y [..., N] = x [..., K] W^T + bias [N]."""
    y = x @ dequantize(codes, scale, offset, x.dtype).T
    return y if bias is None else y + bias.to(x.dtype)


@operator(
    f"quantized_linear_backward(Tensor grad, {weight()}) -> (Tensor out)",
    shapes=lambda grad, codes, *_: [_input_shape(grad, codes)],
)
def quantized_linear_backward(
    grad: Tensor, codes: Tensor, scale: Tensor, offset: Tensor | None
) -> Tensor:
    """dx [..., K] = g [..., N] W."""
    return grad @ dequantize(codes, scale, offset, grad.dtype)


quantized_linear.gradient(
    "x",
    formula=lambda grad, x, codes, scale, offset, bias: quantized_linear_backward(
        grad, codes, scale, offset
    ),
)


@operator(
    f"lora_linear(Tensor x, {LORA}) -> (Tensor out)",
    shapes=lambda x, codes, *_: [output_shape(x, codes)],
)
def lora_linear(
    x: Tensor,
    codes: Tensor,
    scale: Tensor,
    offset: Tensor | None,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scaling: float,
) -> Tensor:
    """y [..., N] = x [..., K] W^T + bias [N] + scaling (x a^T) b^T."""
    return quantized_linear.reference(x, codes, scale, offset, bias) + scaling * (x @ a.T) @ b.T


def lora_gradients(
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
    """(dx, da, db) from h [..., R] = x a^T."""
    dh = scaling * grad @ b
    dx = quantized_linear_backward.reference(grad, codes, scale, offset) + dh @ a
    da = rows(dh).T @ rows(x)
    db = scaling * rows(grad).T @ rows(h)
    return dx, da, db


@operator(
    f"lora_linear_backward(Tensor grad, Tensor x, {weight()}, Tensor a, Tensor b, float scaling)"
    " -> (Tensor dx, Tensor da, Tensor db)",
    shapes=lambda grad, x, codes, scale, offset, a, b, scaling: [x.shape, a.shape, b.shape],
)
def lora_linear_backward(
    grad: Tensor,
    x: Tensor,
    codes: Tensor,
    scale: Tensor,
    offset: Tensor | None,
    a: Tensor,
    b: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, da, db), with h = x a^T computed again."""
    return lora_gradients(grad, x, x @ a.T, codes, scale, offset, a, b, scaling)


lora_linear.gradient(
    *("x", "a", "b"),
    formula=lambda grad, x, codes, scale, offset, bias, *adapter: lora_linear_backward(
        grad, x, codes, scale, offset, *adapter
    ),
)
