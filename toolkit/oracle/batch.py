"""Rows of a token file as inputs of a `transformers` model, and the loss of a row."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.data.samples import IGNORED, Rows


def model_inputs(
    rows: Rows,
    index: int,
    dtype: torch.dtype = torch.float32,
    windows: Mapping[str, int | None] | None = None,
) -> dict[str, Any]:
    """Return input_ids and position_ids int64 [1, T] and an additive attention mask [1, 1, T, T].

    Position t may attend to start[t] <= j <= t: causal, and never across packed documents; with a
    window to the last so many of them. With several windows there is a mask for each, by its name.
    """
    masks = {
        name: _mask(torch.from_numpy(rows.start[index]).long(), window, dtype)
        for name, window in (windows or {"": None}).items()
    }
    return {
        "input_ids": torch.from_numpy(rows.tokens[index]).long()[None],
        "position_ids": torch.from_numpy(rows.positions[index]).long()[None],
        "attention_mask": masks if len(masks) > 1 else next(iter(masks.values())),
    }


def _mask(start: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    t = torch.arange(len(start))
    allowed = (t[None, :] <= t[:, None]) & (t[None, :] >= start[:, None])
    if window is not None:
        allowed &= t[None, :] > t[:, None] - window
    mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)
    return mask[None, None]


def labelled(rows: Rows, indices: list[int]) -> int:
    """Return the number of labelled tokens of these rows, the divisor of a step's loss."""
    return int((rows.labels[indices] != IGNORED).sum())


def loss_sum(model: Any, rows: Rows, index: int) -> Tensor:
    """Return the sum of the token losses of one row, with a graph for backward."""
    dtype = next(model.parameters()).dtype
    inputs = model_inputs(rows, index, dtype, _windows(model))
    logits = model(**inputs, use_cache=False).logits
    labels = torch.from_numpy(rows.labels[index]).long()
    return F.cross_entropy(logits[0], labels, ignore_index=IGNORED, reduction="sum")


def mean_loss(model: Any, rows: Rows, most: int = 0) -> float:
    """Return the mean loss over the labelled tokens of the first `most` rows, all with 0."""
    indices = list(range(len(rows.tokens)))[: most or None]
    with torch.no_grad():
        total = sum(loss_sum(model, rows, index).item() for index in indices)
    return total / max(labelled(rows, indices), 1)


def _windows(model: Any) -> dict[str, int | None]:
    """Return the keys that a query sees, which a model does not add to a mask it is given.

    By type of layer, both types where a model has windows in some layers only.
    """
    config = model.config
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    modeling = sys.modules[type(base).__module__]
    if not hasattr(modeling, "create_sliding_window_causal_mask"):
        return {"": None}  # whatever its configuration says besides
    types = getattr(config, "layer_types", None)
    if types is not None and "sliding_attention" in types:
        return {"full_attention": None, "sliding_attention": config.sliding_window}
    return {"": config.sliding_window if types is None else None}
