"""Training by PyTorch, transformers' schedules and clip_grad_norm_: the trainer's oracle."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from toolkit.data.samples import Rows
from toolkit.layers import parse_layers
from toolkit.oracle.batch import mean_loss
from toolkit.oracle.gradients import step_gradients
from toolkit.oracle.model import adapter_parameters
from toolkit.oracle.sampler import sample_indices
from toolkit.oracle.selection import LayerSelection, skipping
from toolkit.settings.optimizers import OPTIMIZERS
from toolkit.settings.training import TrainSettings


@dataclass(frozen=True)
class TrainStep:
    """One step: loss before its update, learning rate, norm before clipping, samples; the loss on
    held-out rows after it, where it is computed.
    """

    loss: float
    lr: float
    grad_norm: float
    tokens: int
    samples: list[int]
    held_out: float | None = None


def train(
    model: Any, rows: Rows, settings: TrainSettings, held_out: Rows | None = None
) -> Iterator[TrainStep]:
    """Train the model's adapter in place and yield each step as it is done.

    With `held_out` rows they are evaluated before the first step and every `eval_every`, and the
    training ends when `patience` has run out.
    """
    settings = settings.for_samples(len(rows.tokens)).effective()
    groups = _groups(model, settings)
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimizer = OPTIMIZERS[settings.optimizer].reference(groups, settings)
    scheduler = _scheduler(optimizer, settings)
    trained = {int(name.split(".")[1]) for name in adapter_parameters(model)}
    selection = LayerSelection(settings, sorted(trained))
    samples = sample_indices(len(rows.tokens), settings.seed, settings.order)
    evaluated = [] if held_out is None else [mean_loss(model, held_out, settings.max_samples)]
    last_norm = None
    for step in range(1, (settings.steps or 0) + 1):
        indices = list(islice(samples, settings.batch_size * settings.grad_accum))
        taken, skipped = selection.choose(step)
        with skipping(model, skipped):
            gradients = step_gradients(model, rows, indices)
        selection.taken(model, taken)
        norm = last_norm = _clip(parameters, settings, last_norm)
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
        loss = None
        if held_out is not None and settings.eval_every and step % settings.eval_every == 0:
            loss = mean_loss(model, held_out, settings.max_samples)
            evaluated.append(loss)
        yield TrainStep(gradients.loss, lr, norm, gradients.tokens, indices, loss)
        if settings.patience and _since_lowest(evaluated) >= settings.patience:
            return


def _clip(parameters: list[Any], settings: TrainSettings, last_norm: float | None) -> float:
    """Clip gradients as asked for and return their norm before."""
    limit = settings.max_grad_norm or float("inf")
    parameters = [p for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
    by_last = settings.clipping == "last-norm" and last_norm is not None
    known = torch.tensor(last_norm) if by_last else norm
    torch.nn.utils.clip_grads_with_norm_(parameters, limit, known)
    return norm.item()


def _since_lowest(losses: list[float]) -> int:
    """Return how many losses came after the lowest."""
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def _groups(model: Any, settings: TrainSettings) -> list[dict[str, Any]]:
    """Freeze what is not trained, and return A and B with a learning rate each."""
    chosen = parse_layers(settings.layers or "", model.config.num_hidden_layers)
    for name, parameter in adapter_parameters(model).items():
        frozen = settings.freeze == "a" and ".lora_A." in name
        parameter.requires_grad_(int(name.split(".")[1]) in chosen and not frozen)
    trained = adapter_parameters(model).items()
    rate = settings.learning_rate
    rates = {"lora_A": rate, "lora_B": rate * settings.lora_plus_ratio}
    return [
        {"params": [p for name, p in trained if f".{factor}." in name], "lr": lr}
        for factor, lr in rates.items()
    ]


def _scheduler(optimizer: torch.optim.Optimizer, settings: TrainSettings) -> Any:
    from transformers import get_scheduler

    floor = settings.min_learning_rate
    name = settings.schedule if not floor else f"{settings.schedule} to a floor"
    name, more = {
        "constant": ("constant_with_warmup", {}),
        "linear to a floor": ("polynomial", {"lr_end": floor}),
        "cosine to a floor": ("cosine_with_min_lr", {"min_lr": floor}),
    }.get(name, (name, {}))
    return get_scheduler(
        name,
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.steps,
        scheduler_specific_kwargs=more,
    )
