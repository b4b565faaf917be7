"""RMSNorm over rows, or over every part of them as wide as the weight w [W], which is frozen.

A row has D = G W features: one group of all of them, or one for every head.

    y  = w x / n                        with n^2 = mean(x^2) + eps
    dx = u / n - x mean(u x) / n^3      with u = g w

`rms_norm` recomputes n in its backward.
"""

from torch import Tensor

from toolkit.ops.library import operator


def _groups(x: Tensor, weight: Tensor) -> Tensor:
    """[..., G * W] to [..., G, W]."""
    grouped: Tensor = x.unflatten(-1, (-1, len(weight)))
    return grouped


def rstd_of(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """1 / n of every group, [..., G]."""
    return (_groups(x, weight).square().mean(-1) + eps).rsqrt()


@operator(
    "rms_norm(Tensor x, Tensor weight, float eps) -> (Tensor out)",
    shapes=lambda x, weight, eps: [x.shape],
)
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """y [..., D] = weight [W] x / sqrt(mean(x^2) + eps), the mean over every W features."""
    rstd = rstd_of(x, weight, eps)[..., None]
    return (weight.to(x.dtype) * (_groups(x, weight) * rstd)).flatten(-2)


def norm_gradient(grad: Tensor, x: Tensor, weight: Tensor, rstd: Tensor) -> Tensor:
    """dx [..., D] from rstd [..., G] = 1 / n."""
    u, x, rstd = _groups(grad, weight) * weight.to(x.dtype), _groups(x, weight), rstd[..., None]
    return (u * rstd - x * (u * x).mean(-1, keepdim=True) * rstd**3).flatten(-2)


@operator(
    "rms_norm_backward(Tensor grad, Tensor x, Tensor weight, float eps) -> (Tensor out)",
    shapes=lambda grad, x, weight, eps: [x.shape],
)
def rms_norm_backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """dx [..., D], with the groups' statistics computed again."""
    return norm_gradient(grad, x, weight, rstd_of(x, weight, eps))


rms_norm.gradient("x", formula=rms_norm_backward)
