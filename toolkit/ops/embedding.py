"""Token embedding from a quantized table W [V, D]: y[t] = W[token[t]]. Frozen, so no gradient."""

import torch
from torch import Tensor

from toolkit.ops.library import operator, weight
from toolkit.quantization.packing import dequantize_rows, shape_of


@operator(
    f"quantized_embedding(Tensor tokens, {weight()}) -> (Tensor out)",
    shapes=lambda tokens, codes, *_: [(*tokens.shape, shape_of(codes)[1])],
)
def quantized_embedding(
    tokens: Tensor, codes: Tensor, scale: Tensor, offset: Tensor | None
) -> Tensor:
    """y, float32 [1, T, D], of tokens, int32 [1, T], each 0 <= token < V."""
    rows = dequantize_rows(codes, scale, offset, tokens.flatten())
    return torch.unflatten(rows, 0, tokens.shape)
