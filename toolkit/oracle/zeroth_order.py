"""Zeroth-order training by PyTorch with the engine's own random directions: its oracle."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from toolkit.data.samples import Rows
from toolkit.layers import parse_layers
from toolkit.oracle.batch import labelled, loss_sum
from toolkit.oracle.model import adapter_parameters
from toolkit.oracle.sampler import sample_indices
from toolkit.replaying.normals import normals
from toolkit.replaying.replay import Place, places
from toolkit.settings.training import TrainSettings


@dataclass(frozen=True)
class ZerothOrderStep:
    """One step: mean losses at p + eps z and p - eps z and their slopes, one for a direction."""

    plus: list[float]
    minus: list[float]
    slopes: list[float]
    samples: list[int]

    @property
    def loss(self) -> float:
        """The mean of all, which the engine tells."""
        return math.fsum(self.plus + self.minus) / len(self.plus + self.minus)


def train_zeroth_order(
    model: Any,
    rows: Rows,
    settings: TrainSettings,
    rates: Sequence[float],
    slopes: Sequence[Sequence[float]] | None = None,
) -> Iterator[ZerothOrderStep]:
    """Train the model's adapter in place and yield each step as it is done.

    Args:
        settings: Of mezo, sparse-mezo or mobizo.
        rates: Every step's learning rate.
        slopes: What to update by instead of the steps' own.
    """
    settings = settings.effective()
    where = places(adapter_parameters(model))
    trained = _trained(model, settings)
    limits = {name: _limit(value, settings.sparsity or 0.0) for name, value in trained.items()}
    samples = sample_indices(len(rows.tokens), settings.seed, settings.order)
    epsilon = settings.zo_eps or math.nan
    for step, rate in enumerate(rates, 1):
        indices = list(islice(samples, settings.batch_size * settings.grad_accum))
        masks = {name: value.abs() <= limits[name] for name, value in trained.items()}
        z = [
            {
                name: masks[name] * direction(settings.seed, where[name], step, value, query)
                for name, value in trained.items()
            }
            for query in range(settings.queries or 1)
        ]
        plus = [_loss_at(model, rows, indices, trained, d, epsilon) for d in z]
        minus = [_loss_at(model, rows, indices, trained, d, -epsilon) for d in z]
        own = [(p - m) / (2 * epsilon) for p, m in zip(plus, minus, strict=True)]
        yield ZerothOrderStep(plus, minus, own, indices)
        used = own if slopes is None else slopes[step - 1]
        for name, value in trained.items():
            ratio = settings.lora_plus_ratio if where[name].is_b else 1.0
            estimate = sum(g * d[name] for g, d in zip(used, z, strict=True)) / len(z)
            value -= rate * (
                ratio * estimate + (settings.weight_decay or 0.0) * masks[name] * value
            )


def direction(seed: int, place: Place, step: int, like: Tensor, query: int = 0) -> Tensor:
    """Return a step's z of one tensor, in the type and shape of `like`."""
    z = torch.from_numpy(normals(seed, place.stream(step, query), like.numel()))
    return z.to(like.dtype).reshape(like.shape)


def _trained(model: Any, settings: TrainSettings) -> dict[str, Tensor]:
    """Return the tensors that are moved."""
    parameters = adapter_parameters(model)
    where = places(parameters)
    b_alone = settings.method == "mobizo" or settings.freeze == "a"
    chosen = parse_layers(settings.layers or "", model.config.num_hidden_layers)
    return {
        name: parameter.data
        for name, parameter in parameters.items()
        if where[name].layer in chosen and (where[name].is_b or not b_alone)
    }


def _limit(values: Tensor, sparsity: float) -> float:
    """Return the magnitude above which values stay as they are."""
    chosen = max(1, math.ceil((1 - sparsity) * values.numel()))
    limit = values.abs().flatten().kthvalue(chosen).values.item()
    return limit if limit > 0 and sparsity > 0 else math.inf


@torch.no_grad()
def _loss_at(
    model: Any,
    rows: Rows,
    indices: list[int],
    values: dict[str, Tensor],
    z: dict[str, Tensor],
    epsilon: float,
) -> float:
    """Return the mean loss at values + epsilon z; the values are put back as they were."""
    before = {name: value.clone() for name, value in values.items()}
    for name, value in values.items():
        value += epsilon * z[name]
    loss = math.fsum(loss_sum(model, rows, index).item() for index in indices)
    for name, value in values.items():
        value.copy_(before[name])
    return loss / labelled(rows, indices)
