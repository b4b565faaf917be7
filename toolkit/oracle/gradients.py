"""Loss and LoRA gradients of one step by PyTorch, and how far others are from them."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.data.samples import Rows
from toolkit.oracle.batch import labelled, loss_sum
from toolkit.oracle.model import adapter_parameters


@dataclass(frozen=True)
class Gradients:
    """Mean loss over the labelled tokens, their number, and gradients named as in adapter.ptd."""

    loss: float
    tokens: int
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class TensorError:
    """How far a tensor is off: norm of the difference over the norm of what was expected."""

    name: str
    relative: float
    norm: float

    @property
    def group(self) -> str:
        """The tensor's kind, for example "q_proj.lora_A"."""
        return ".".join(self.name.split(".")[-3:-1])


def step_gradients(
    model: Any,
    rows: Rows,
    indices: Iterable[int],
    prepare: Callable[[int], None] = lambda index: None,
) -> Gradients:
    """Return loss and gradients of one step over rows of a token file, one row at a time.

    The loss is the sum of all token losses over the number of labelled tokens of all rows, as
    `transformers` does with num_items_in_batch. `prepare` is called before each row.
    """
    indices = list(indices)
    tokens = labelled(rows, indices)
    model.zero_grad(set_to_none=True)
    total = 0.0
    for index in indices:
        prepare(index)
        loss = loss_sum(model, rows, index)
        (loss / max(tokens, 1)).backward()
        total += loss.item()
    tensors = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in adapter_parameters(model).items()
    }
    return Gradients(total / max(tokens, 1), tokens, tensors)


def compare(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[TensorError]:
    """Return every expected tensor's error, the worst first; missing or NaN is infinitely far."""
    errors = []
    for name, tensor in expected.items():
        norm = tensor.double().norm().item()
        errors.append(TensorError(name, _relative(actual.get(name), tensor, norm), norm))
    return sorted(errors, key=lambda error: (-error.relative, error.name))


def _relative(actual: Tensor | None, expected: Tensor, norm: float) -> float:
    if actual is None or actual.shape != expected.shape:
        return math.inf
    difference = float((actual.double() - expected.double()).norm())
    if not math.isfinite(difference):
        return math.inf
    if norm == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / norm
