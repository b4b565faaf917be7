"""Training by PyTorch, transformers' schedules and clip_grad_norm_: the trainer's oracle."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import isnan, nan
from typing import Any

import torch

from toolkit.data.samples import Rows
from toolkit.layers import parse_layers
from toolkit.oracle.gradients import step_gradients
from toolkit.oracle.model import adapter_parameters
from toolkit.oracle.sampler import sample_indices
from toolkit.settings.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class TrainSettings:
    """The trainer's flags of the same names; sequences per step = batch_size * grad_accum.

    `beta2` is, unless it is given, the optimizer's own default.
    """

    steps: int
    lr: float = 1e-4
    optimizer: str = "adamw"
    batch_size: int = 1
    grad_accum: int = 1
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = nan
    eps: float = 1e-8
    momentum: float = 0.0
    max_grad_norm: float = 0.0
    lora_plus_ratio: float = 1.0
    layers: str | None = None
    warmup_steps: int = 0
    schedule: str = "constant"
    seed: int = 0
    order: str = "shuffled"

    def __post_init__(self) -> None:
        if isnan(self.beta2):
            own = OPTIMIZERS[self.optimizer].options.get("beta2", 0.999)
            object.__setattr__(self, "beta2", own)


@dataclass(frozen=True)
class TrainStep:
    """One step: loss before its update, learning rate, norm before clipping, samples."""

    loss: float
    lr: float
    grad_norm: float
    tokens: int
    samples: list[int]


def train(model: Any, rows: Rows, settings: TrainSettings) -> Iterator[TrainStep]:
    """Train the model's adapter in place and yield each step as it is done."""
    groups = _groups(model, settings)
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimizer = OPTIMIZERS[settings.optimizer].reference(groups, settings)
    scheduler = _scheduler(optimizer, settings)
    samples = sample_indices(len(rows.tokens), settings.seed, settings.order)
    for _ in range(settings.steps):
        indices = list(islice(samples, settings.batch_size * settings.grad_accum))
        gradients = step_gradients(model, rows, indices)
        limit = settings.max_grad_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit).item()
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
        yield TrainStep(gradients.loss, lr, norm, gradients.tokens, indices)


def _groups(model: Any, settings: TrainSettings) -> list[dict[str, Any]]:
    """Freeze the layers that are not trained, and return A and B with a learning rate each."""
    chosen = parse_layers(settings.layers or "", model.config.num_hidden_layers)
    for name, parameter in adapter_parameters(model).items():
        parameter.requires_grad_(int(name.split(".")[1]) in chosen)
    trained = adapter_parameters(model).items()
    rates = {"lora_A": settings.lr, "lora_B": settings.lr * settings.lora_plus_ratio}
    return [
        {"params": [p for name, p in trained if f".{factor}." in name], "lr": rate}
        for factor, rate in rates.items()
    ]


def _scheduler(optimizer: torch.optim.Optimizer, settings: TrainSettings) -> Any:
    from transformers import get_scheduler

    name = {"constant": "constant_with_warmup"}.get(settings.schedule, settings.schedule)
    return get_scheduler(
        name,
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.steps,
    )
