"""Activations whose gradient is approximate: Approx-BP (arXiv 2406.16282, ICML 2024).

The result is the exact activation. For the backward each element keeps only between which of three
thresholds it lies, two bits; its derivative is then one of four numbers:

    y  = act(x)
    k  = number of c_i with x > c_i     0 to 3; element i of a row has two bits of byte i / 4,
    dx = g (a_1 + ... + a_k)            the first one's are the lowest

    resilu2     act = silu
    regelu2     act = gelu by tanh. The paper fits a and c to gelu by erf, from which it is at most
                5e-4 away: nothing beside the error of four slopes

These a and c make the primitive of the slopes closest to the activation (the paper's section 4.2).
The slopes are off by up to 0.55 from the derivative itself, close to x = 0.
"""

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import gelu, pad, silu

from toolkit.ops.library import operator

RESILU2_STEPS = (-0.04060357190528599, 1.080925428529668, -0.040321856624382146)
RESILU2_THRESHOLDS = (-6.3050461001646445, -0.0008684942046214787, 6.325815242089708)
REGELU2_STEPS = (-0.04922261145617846, 1.0979632065417297, -0.048740595085551286)
REGELU2_THRESHOLDS = (-3.1858810036855245, -0.001178821281161997, 3.190832613414926)

PER_BYTE = 4


def _packed(x: Tensor) -> tuple[int, ...]:
    return (*x.shape[:-1], -(-x.shape[-1] // PER_BYTE))


def pack(counts: Tensor) -> Tensor:
    """Return numbers from 0 to 3 [..., F] as uint8 [..., F/4], rounded up; the rest is zero."""
    groups = pad(counts, (0, -counts.shape[-1] % PER_BYTE)).unflatten(-1, (-1, PER_BYTE))
    shifted = groups << (2 * torch.arange(PER_BYTE, device=counts.device))
    return shifted.sum(-1).to(torch.uint8)


def unpack(codes: Tensor, size: int) -> Tensor:
    """Return the first `size` numbers of every row, int64 [..., size]."""
    shifts = 2 * torch.arange(PER_BYTE, device=codes.device)
    return ((codes.long()[..., None] >> shifts) & 3).flatten(-2)[..., :size]


def _codes(x: Tensor, thresholds: tuple[float, ...]) -> Tensor:
    return pack(sum(((x > t).long() for t in thresholds), torch.zeros_like(x, dtype=torch.long)))


def _slopes(steps: tuple[float, ...], grad: Tensor, codes: Tensor) -> Tensor:
    slopes = torch.tensor([0.0, *accumulate(steps)], dtype=grad.dtype)
    return grad * slopes[unpack(codes, grad.shape[-1])]


def _shapes(x: Tensor) -> list[tuple[int, ...]]:
    return [tuple(x.shape), _packed(x)]


_CODES = {"codes": torch.uint8}


@operator("resilu2(Tensor x) -> (Tensor y, Tensor codes)", shapes=_shapes, dtype=_CODES)
def resilu2(x: Tensor) -> tuple[Tensor, Tensor]:
    """(y, codes): silu(x) [..., F] and uint8 [..., F/4], rounded up."""
    return silu(x), _codes(x, RESILU2_THRESHOLDS)


@operator(
    "resilu2_backward(Tensor grad, Tensor codes) -> (Tensor out)",
    shapes=lambda grad, codes: [grad.shape],
)
def resilu2_backward(grad: Tensor, codes: Tensor) -> Tensor:
    """The approximate dx [..., F]."""
    return _slopes(RESILU2_STEPS, grad, codes)


@operator("regelu2(Tensor x) -> (Tensor y, Tensor codes)", shapes=_shapes, dtype=_CODES)
def regelu2(x: Tensor) -> tuple[Tensor, Tensor]:
    """(y, codes): gelu(x) by tanh [..., F] and uint8 [..., F/4], rounded up."""
    return gelu(x, approximate="tanh"), _codes(x, REGELU2_THRESHOLDS)


@operator(
    "regelu2_backward(Tensor grad, Tensor codes) -> (Tensor out)",
    shapes=lambda grad, codes: [grad.shape],
)
def regelu2_backward(grad: Tensor, codes: Tensor) -> Tensor:
    """The approximate dx [..., F]."""
    return _slopes(REGELU2_STEPS, grad, codes)


def _formula(backward: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda grad, x, codes: backward(grad, codes)


resilu2.gradient("x", formula=_formula(resilu2_backward), saved="codes")
regelu2.gradient("x", formula=_formula(regelu2_backward), saved="codes")
