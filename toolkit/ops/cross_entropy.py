"""The loss head: linear layer and cross-entropy in one, so that logits are never stored.

Over the tokens t whose label is not -100, labels already shifted, W [V, D] frozen:

    l = x W^T           loss = sum_t log sum_v exp l[t,v] - l[t,label[t]]
    dx[t] = sum_v softmax(l[t])[v] W[v] - W[label[t]]

Kernels visit the vocabulary in tiles and keep running sums (cf. arXiv 2411.09009).
"""

import torch
from torch import Tensor

from toolkit.data.samples import IGNORED
from toolkit.ops.elementwise import scale as scale_by
from toolkit.ops.library import operator, weight
from toolkit.quantization.packing import dequantize

_INPUTS = f"Tensor x, Tensor labels, {weight()}, int vocab"


@operator(
    f"linear_cross_entropy({_INPUTS}) -> (Tensor loss, Tensor dx)",
    shapes=lambda x, *_: [(), x.shape],
)
def linear_cross_entropy(
    x: Tensor, labels: Tensor, codes: Tensor, scale: Tensor, offset: Tensor | None, vocab: int
) -> tuple[Tensor, Tensor]:
    """(loss, dx).

    Args:
        x: Hidden states [1, T, D].
        labels: int32 [1, T], token that each position must predict, or -100.
        codes: Packed codes of W, with scale and offset.
        scale: See codes.
        offset: See codes.
        vocab: V without the rows that pad W.

    Returns:
        The sum of the tokens' losses, [], and its gradient dx [1, T, D].
    """
    w = dequantize(codes, scale, offset, x.dtype)[:vocab]
    kept = labels[0] != IGNORED
    label = labels[0, kept].long()
    logits = x[0, kept] @ w.T
    lse = logits.logsumexp(-1)
    loss = (lse - logits.gather(1, label[:, None])[:, 0]).sum()
    dx = torch.zeros_like(x)
    dx[0, kept] = (logits - lse[:, None]).exp() @ w - w[label]
    return loss, dx


linear_cross_entropy.gradient("x", formula=lambda grad, *_, dx: scale_by(dx, grad), saved="dx")


@operator(f"linear_cross_entropy_loss({_INPUTS}) -> (Tensor out)", shapes=lambda x, *_: [()])
def linear_cross_entropy_loss(
    x: Tensor, labels: Tensor, codes: Tensor, scale: Tensor, offset: Tensor | None, vocab: int
) -> Tensor:
    """The loss of `linear_cross_entropy` alone, which takes half the work."""
    return linear_cross_entropy.reference(x, labels, codes, scale, offset, vocab)[0]


linear_cross_entropy_loss.gradient(
    "x", formula=lambda grad, *args: scale_by(linear_cross_entropy(*args)[1], grad)
)
