"""Attention of some tokens that follow others, whose keys and values are kept in a cache.

Query t stands at position p = positions[t] and attends to the keys at positions j with
p - window < j <= p: those before positions[0] are rows of the cache, the others are `k` and `v`
themselves. A program's k and v are outputs that a runtime puts into the cache's next rows, so that
the cache grows without a copy; the result is the same wherever they are.

For generation only: there is no gradient.
"""

import torch
from torch import Tensor

from toolkit.ops.attention import probabilities, weighted
from toolkit.ops.library import operator


@operator(
    "attention_cached(Tensor q, Tensor k, Tensor v, Tensor keys, Tensor values, Tensor positions,"
    " int window, int heads, int kv_heads, float scale) -> (Tensor out)",
    shapes=lambda q, *_: [q.shape],
)
def attention_cached(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    positions: Tensor,
    window: int,
    heads: int,
    kv_heads: int,
    scale: float,
) -> Tensor:
    """out = softmax(scale q kᵀ) v over the cache and the tokens themselves.

    Args:
        q: [1, T, H*d].
        k: [1, T, K*d].
        v: [1, T, K*d].
        keys: [C, K*d] with C >= positions[0] + T; rows from positions[0] on are not read.
        values: The same.
        positions: int32 [T], one after the other.
        window: Keys that a query sees at most, itself included; 0: all before it.
        heads: H.
        kv_heads: K.
        scale: Factor of the scores.

    Returns:
        [1, T, H*d].
    """
    past, tokens = int(positions[0]), q.shape[1]
    end = torch.arange(past, past + tokens)
    start = (end - (window - 1)).clamp(min=0) if window else torch.zeros_like(end)
    all_keys, all_values = (
        torch.cat([cache[:past], new[0]])[None] for cache, new in ((keys, k), (values, v))
    )
    # Queries of the tokens before, whose results are left out.
    before = q.new_zeros(1, past, q.shape[2])
    starts = torch.cat([torch.arange(past), start])
    queries = torch.cat([before, q], 1)
    probs = probabilities(queries, all_keys, starts, heads, kv_heads, scale)
    return weighted(probs[:, past:], all_values, heads, kv_heads)
