"""Rows of a token file as inputs of a `transformers` model, and the loss of a row."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.data.samples import IGNORED, Rows


def model_inputs(rows: Rows, index: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return input_ids and position_ids int64 [1, T] and an additive attention mask [1, 1, T, T].

    Position t may attend to start[t] <= j <= t: causal, and never across packed documents.
    """
    start = torch.from_numpy(rows.start[index]).long()
    t = torch.arange(len(start))
    allowed = (t[None, :] <= t[:, None]) & (t[None, :] >= start[:, None])
    mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)
    return {
        "input_ids": torch.from_numpy(rows.tokens[index]).long()[None],
        "position_ids": torch.from_numpy(rows.positions[index]).long()[None],
        "attention_mask": mask[None, None],
    }


def labelled(rows: Rows, indices: list[int]) -> int:
    """Return the number of labelled tokens of these rows, the divisor of a step's loss."""
    return int((rows.labels[indices] != IGNORED).sum())


def loss_sum(model: Any, rows: Rows, index: int) -> Tensor:
    """Return the sum of the token losses of one row, with a graph for backward."""
    dtype = next(model.parameters()).dtype
    logits = model(**model_inputs(rows, index, dtype), use_cache=False).logits
    labels = torch.from_numpy(rows.labels[index]).long()
    return F.cross_entropy(logits[0], labels, ignore_index=IGNORED, reduction="sum")


def mean_loss(model: Any, rows: Rows, most: int = 0) -> float:
    """Return the mean loss over the labelled tokens of the first `most` rows, all with 0."""
    indices = list(range(len(rows.tokens)))[: most or None]
    with torch.no_grad():
        total = sum(loss_sum(model, rows, index).item() for index in indices)
    return total / max(labelled(rows, indices), 1)
