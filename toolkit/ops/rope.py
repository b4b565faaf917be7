"""Rotary position embedding (arXiv 2104.09864), halves rotated against each other as HF does.

For every head, x = (x1, x2) split in the middle, angle = position * inv_freq:

    y1 = m (x1 cos - x2 sin)        y2 = m (x2 cos + x1 sin)        m: attention_scaling

This is m times a rotation, so the backward is the same with the sine negated (`inverse`).
"""

import torch
from torch import Tensor

from toolkit.ops.library import operator


@operator(
    "rope(Tensor x, Tensor positions, Tensor inv_freq, float attention_scaling, bool inverse)"
    " -> (Tensor out)",
    shapes=lambda x, *_: [x.shape],
)
def rope(
    x: Tensor, positions: Tensor, inv_freq: Tensor, attention_scaling: float, inverse: bool
) -> Tensor:
    """Rotate x [1, T, H*d] by positions, int32 [T], and inv_freq [d/2]; `inverse` transposes."""
    angle = positions.to(x.dtype)[:, None] * inv_freq.to(x.dtype)  # [T, d/2]
    cos = angle.cos()[:, None] * attention_scaling
    sin = angle.sin()[:, None] * attention_scaling
    if inverse:
        sin = -sin
    x1, x2 = x.unflatten(-1, (-1, 2, len(inv_freq))).unbind(-2)  # [1, T, H, d/2] each
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1).flatten(-2)


rope.gradient(
    "x",
    formula=lambda grad, x, positions, inv_freq, attention_scaling, inverse: rope(
        grad, positions, inv_freq, attention_scaling, not inverse
    ),
)
