"""Rotary position embedding (arXiv 2104.09864), halves rotated against each other as HF does.

For every head, x = (x1, x2) split in the middle, angle = position * inv_freq:

    y1 = m (x1 cos - x2 sin)        y2 = m (x2 cos + x1 sin)        m: attention_scaling

This is m times a rotation, so the backward is the same with the sine negated (`inverse`).

`split_rope` takes a fused projection apart and turns q and k, of every head the first features as
many as there are frequencies for; its backward puts the gradients together.
"""

from typing import cast

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
    return _turn(x, positions, inv_freq, attention_scaling, 2 * len(inv_freq), inverse)


def _turn(
    x: Tensor,
    positions: Tensor,
    inv_freq: Tensor,
    attention_scaling: float,
    head_size: int,
    inverse: bool,
) -> Tensor:
    """Rotate the first features of every head of x [1, T, H*d], two for every frequency."""
    angle = positions.to(x.dtype)[:, None] * inv_freq.to(x.dtype)
    cos = angle.cos()[:, None] * attention_scaling
    sin = angle.sin()[:, None] * attention_scaling
    if inverse:
        sin = -sin
    half, heads = len(inv_freq), x.unflatten(-1, (-1, head_size))
    x1, x2, rest = heads.split([half, half, head_size - 2 * half], -1)  # [1, T, H, ...] each
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin, rest], -1).flatten(-2)


rope.gradient(
    "x",
    formula=lambda grad, x, positions, inv_freq, attention_scaling, inverse: rope(
        grad, positions, inv_freq, attention_scaling, not inverse
    ),
)


_SETTINGS = (
    "Tensor positions, Tensor inv_freq, float attention_scaling, int original, int heads, "
    "int kv_heads"
)


def _frequencies(inv_freq: Tensor, positions: Tensor, original: int) -> Tensor:
    """The frequencies for a row of these positions."""
    if inv_freq.dim() == 1:
        return inv_freq
    return inv_freq[int(positions.max() >= original)]


def _qkv_shapes(qkv: Tensor, *settings: object) -> list[tuple[int, ...]]:
    heads, kv_heads = cast(tuple[int, int], settings[-2:])
    size = qkv.shape[-1] // (heads + 2 * kv_heads)
    return [(*qkv.shape[:-1], count * size) for count in (heads, kv_heads, kv_heads)]


@operator(
    f"split_rope(Tensor qkv, {_SETTINGS}) -> (Tensor q, Tensor k, Tensor v)", shapes=_qkv_shapes
)
def split_rope(
    qkv: Tensor,
    positions: Tensor,
    inv_freq: Tensor,
    attention_scaling: float,
    original: int,
    heads: int,
    kv_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """(q, k, v), q and k rotated.

    Args:
        qkv: [1, T, (H + 2K)*d].
        positions: int32 [T].
        inv_freq: [r/2] with r <= d, or [2, r/2], of which the second row is for rows of tokens
            that have a position of `original` or above.
        attention_scaling: m.
        original: See inv_freq; not used for a single row.
        heads: H.
        kv_heads: K.

    Returns:
        [1, T, H*d], [1, T, K*d], [1, T, K*d].
    """
    shapes = _qkv_shapes(qkv, heads, kv_heads)
    q, k, v = qkv.split([shape[-1] for shape in shapes], -1)
    found = _frequencies(inv_freq, positions, original)
    size = shapes[0][-1] // heads
    turned = (_turn(x, positions, found, attention_scaling, size, False) for x in (q, k))
    return *turned, v


@operator(
    f"split_rope_backward(Tensor dq, Tensor dk, Tensor dv, {_SETTINGS}) -> (Tensor out)",
    shapes=lambda dq, dk, *_: [(*dq.shape[:-1], dq.shape[-1] + 2 * dk.shape[-1])],
)
def split_rope_backward(
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    positions: Tensor,
    inv_freq: Tensor,
    attention_scaling: float,
    original: int,
    heads: int,
    kv_heads: int,
) -> Tensor:
    """dqkv [1, T, (H + 2K)*d]."""
    found = _frequencies(inv_freq, positions, original)
    size = dq.shape[-1] // heads
    turned = (_turn(x, positions, found, attention_scaling, size, True) for x in (dq, dk))
    return torch.cat([*turned, dv], -1)


split_rope.gradient(
    "qkv",
    formula=lambda dq, dk, dv, qkv, *settings: split_rope_backward(dq, dk, dv, *settings),
    outputs=3,
)
