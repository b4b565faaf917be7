"""RMSNorm over the last dimension, weight w [D] frozen.

    y  = w x / n                        with n^2 = mean(x^2) + eps
    dx = u / n - x mean(u x) / n^3      with u = g w

`rms_norm` recomputes n in its backward, `rms_norm_saved` keeps rstd = 1 / n.
"""

from torch import Tensor

from toolkit.ops.library import operator


def _rstd(x: Tensor, eps: float) -> Tensor:
    return (x.square().mean(-1, keepdim=True) + eps).rsqrt()


@operator(
    "rms_norm(Tensor x, Tensor weight, float eps) -> (Tensor out)",
    shapes=lambda x, weight, eps: [x.shape],
)
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """y [..., D] = weight [D] x / sqrt(mean(x^2) + eps)."""
    return weight.to(x.dtype) * (x * _rstd(x, eps))


@operator(
    "rms_norm_backward(Tensor grad, Tensor x, Tensor weight, float eps) -> (Tensor out)",
    shapes=lambda grad, x, weight, eps: [x.shape],
)
def rms_norm_backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """dx [..., D], with the row's statistic computed again."""
    return rms_norm_saved_backward.reference(grad, x, weight, _rstd(x, eps))


rms_norm.gradient("x", formula=rms_norm_backward)


@operator(
    "rms_norm_saved(Tensor x, Tensor weight, float eps) -> (Tensor y, Tensor rstd)",
    shapes=lambda x, weight, eps: [x.shape, (*x.shape[:-1], 1)],
)
def rms_norm_saved(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(y, rstd) with rstd [..., 1] = 1 / sqrt(mean(x^2) + eps)."""
    return rms_norm.reference(x, weight, eps), _rstd(x, eps)


@operator(
    "rms_norm_saved_backward(Tensor grad, Tensor x, Tensor weight, Tensor rstd) -> (Tensor out)",
    shapes=lambda grad, x, weight, rstd: [x.shape],
)
def rms_norm_saved_backward(grad: Tensor, x: Tensor, weight: Tensor, rstd: Tensor) -> Tensor:
    """dx [..., D], with rstd [..., 1] as the forward saved it."""
    u = grad * weight.to(x.dtype)
    return u * rstd - x * (u * x).mean(-1, keepdim=True) * rstd**3


rms_norm_saved.gradient(
    "x",
    formula=lambda grad, x, weight, eps, rstd: rms_norm_saved_backward(grad, x, weight, rstd),
    saved="rstd",
)
