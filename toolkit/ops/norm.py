"""RMSNorm over the last dimension, weight w [D] frozen.

    y  = w x / n                        with n^2 = mean(x^2) + eps
    dx = u / n - x mean(u x) / n^3      with u = g w

`rms_norm` recomputes n in its backward.
"""

from torch import Tensor

from toolkit.ops.library import operator


def rstd_of(x: Tensor, eps: float) -> Tensor:
    """1 / n [..., 1]."""
    return (x.square().mean(-1, keepdim=True) + eps).rsqrt()


@operator(
    "rms_norm(Tensor x, Tensor weight, float eps) -> (Tensor out)",
    shapes=lambda x, weight, eps: [x.shape],
)
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """y [..., D] = weight [D] x / sqrt(mean(x^2) + eps)."""
    return weight.to(x.dtype) * (x * rstd_of(x, eps))


def norm_gradient(grad: Tensor, x: Tensor, weight: Tensor, rstd: Tensor) -> Tensor:
    """dx [..., D] from rstd [..., 1] = 1 / n."""
    u = grad * weight.to(x.dtype)
    return u * rstd - x * (u * x).mean(-1, keepdim=True) * rstd**3


@operator(
    "rms_norm_backward(Tensor grad, Tensor x, Tensor weight, float eps) -> (Tensor out)",
    shapes=lambda grad, x, weight, eps: [x.shape],
)
def rms_norm_backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """dx [..., D], with the row's statistic computed again."""
    return norm_gradient(grad, x, weight, rstd_of(x, eps))


rms_norm.gradient("x", formula=rms_norm_backward)
