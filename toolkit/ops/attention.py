"""Causal grouped-query attention; query t attends to the keys start[t] <= j <= t.

`start` carries packed documents (the first token of t's document) and, by `window_start`, windows.
Head h reads key-value head h // (H / K). For each head, with masked scores left out:

    p  = softmax(s q k^T) [T, T]        out = p v
    dv = p^T g                          dp  = g v^T
    dz = p * (dp - sum_j p dp)
    dq = s dz k                         dk  = s dz^T q      dk, dv summed over a group's heads

`attention` recomputes p, blockwise, in the kernels (compare FlashAttention, arXiv 2205.14135).
"""

import torch
from torch import Tensor

from toolkit.ops.library import operator

INPUTS = "Tensor q, Tensor k, Tensor v"
SETTINGS = "Tensor start, int heads, int kv_heads, float scale"


def _split(x: Tensor, heads: int, repeat: int = 1) -> Tensor:
    """[1, T, heads*d] to [heads*repeat, T, d], each head `repeat` times."""
    return torch.unflatten(x[0], -1, (heads, -1)).transpose(0, 1).repeat_interleave(repeat, 0)


def _merge(x: Tensor, heads: int) -> Tensor:
    """[heads*repeat, T, d] to [1, T, heads*d], repeated heads summed."""
    return torch.unflatten(x, 0, (heads, -1)).sum(1).transpose(0, 1).flatten(1)[None]


def probabilities(
    q: Tensor, k: Tensor, start: Tensor, heads: int, kv_heads: int, scale: float
) -> Tensor:
    """p [H, T, T], 0 where masked."""
    t = torch.arange(q.shape[1])
    visible = (t[None] <= t[:, None]) & (t[None] >= start[:, None])
    scores = scale * _split(q, heads) @ _split(k, kv_heads, heads // kv_heads).mT
    return scores.masked_fill(~visible, -torch.inf).softmax(-1)


def weighted(probs: Tensor, v: Tensor, heads: int, kv_heads: int) -> Tensor:
    """p v [1, T, H*d]."""
    return _merge(probs @ _split(v, kv_heads, heads // kv_heads), heads)


def gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    probs: Tensor,
    heads: int,
    kv_heads: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv) from the probabilities [H, T, T]."""
    group = heads // kv_heads
    g = _split(grad, heads)
    dp = g @ _split(v, kv_heads, group).mT
    dz = scale * probs * (dp - (probs * dp).sum(-1, keepdim=True))
    dq = dz @ _split(k, kv_heads, group)
    dk = dz.mT @ _split(q, heads)
    dv = probs.mT @ g
    return _merge(dq, heads), _merge(dk, kv_heads), _merge(dv, kv_heads)


@operator(
    "window_start(Tensor start, int window) -> (Tensor out)",
    shapes=lambda start, window: [start.shape],
    dtype=torch.int32,
)
def window_start(start: Tensor, window: int) -> Tensor:
    """start for queries that see `window` keys at most, themselves included; int32 [T]."""
    return torch.maximum(start, torch.arange(len(start)) - (window - 1)).int()


@operator(
    f"attention({INPUTS}, {SETTINGS}) -> (Tensor out)",
    shapes=lambda q, *_: [q.shape],
)
def attention(
    q: Tensor, k: Tensor, v: Tensor, start: Tensor, heads: int, kv_heads: int, scale: float
) -> Tensor:
    """out = softmax(scale q k^T) v.

    Args:
        q: [1, T, H*d].
        k: [1, T, K*d].
        v: [1, T, K*d].
        start: int32 [T], first key that each query sees.
        heads: H.
        kv_heads: K.
        scale: Factor of the scores, usually 1 / sqrt(d).

    Returns:
        [1, T, H*d].
    """
    probs = probabilities(q, k, start, heads, kv_heads, scale)
    return weighted(probs, v, heads, kv_heads)


@operator(
    f"attention_backward(Tensor grad, {INPUTS}, {SETTINGS}) -> (Tensor dq, Tensor dk, Tensor dv)",
    shapes=lambda grad, q, k, v, *_: [q.shape, k.shape, v.shape],
)
def attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    start: Tensor,
    heads: int,
    kv_heads: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv), with the probabilities computed again."""
    probs = probabilities(q, k, start, heads, kv_heads, scale)
    return gradients(grad, q, k, v, probs, heads, kv_heads, scale)


attention.gradient("q", "k", "v", formula=attention_backward)
