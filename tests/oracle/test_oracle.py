"""The oracle against plain `transformers`: its loss, its masks, its trainer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from tests.oracle.rows import mixed_rows
from toolkit.bundle.bundle import Bundle
from toolkit.data.samples import IGNORED, Rows
from toolkit.oracle.batch import loss_sum
from toolkit.oracle.gradients import TensorError, compare, step_gradients
from toolkit.oracle.model import adapter_parameters, build_model
from toolkit.oracle.sampler import permutation, sample_indices
from toolkit.oracle.training import train
from toolkit.oracle.verification import write_perturbed_adapter
from toolkit.settings.training import TrainSettings

FAMILIES = [("llama", True), ("llama", False), ("qwen2", True), ("gemma3_text", True)]
CLOSE = 1e-6
"""The model computes in float64 here, but `transformers` takes the loss in float32: 6e-8 rounding,
summed over up to 24 tokens."""


@pytest.fixture
def model(request, make_bundle, tmp_path):
    family, tied = getattr(request, "param", FAMILIES[0])
    bundle = Bundle.open(make_bundle(family, tied))
    write_perturbed_adapter(bundle, tmp_path / "adapter.ptd", seed=3)
    return build_model(bundle, tmp_path / "adapter.ptd", torch.float64)


def documents(rows: Rows) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return tokens and unshifted labels [n] of every document of all rows, padding left out."""
    found = []
    for tokens, labels, start in zip(rows.tokens, rows.labels, rows.start, strict=True):
        for begin in np.unique(start):
            at = np.flatnonzero(start == begin)
            last = at[labels[at] != IGNORED][-1] + 1
            inputs = np.append(tokens[begin:last], labels[last - 1])
            targets = np.append([IGNORED], labels[begin:last])
            found.append((torch.tensor(inputs).long(), torch.tensor(targets).long()))
    return found


@pytest.mark.parametrize("model", [("phi3", False), ("gemma3_text", True)], indirect=True, ids=str)
def test_windows_are_those_of_the_model(model):
    """Of a whole row, which a model given no mask makes one for."""
    rows = mixed_rows(24, 150)
    index = next(i for i, start in enumerate(rows.start) if not start.any())
    tokens = torch.from_numpy(rows.tokens[index]).long()[None]
    labels = torch.from_numpy(rows.labels[index]).long()
    assert model.config.sliding_window < tokens.shape[1]
    logits = model(tokens, use_cache=False).logits[0]
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    assert loss_sum(model, rows, index).item() == pytest.approx(expected.item(), rel=CLOSE)


def test_a_window_that_the_model_does_not_look_at_is_none(model):
    rows = mixed_rows(24, 150)
    expected = loss_sum(model, rows, 0).item()
    model.config.sliding_window = 3
    assert loss_sum(model, rows, 0).item() == expected


@pytest.mark.parametrize("model", FAMILIES, indirect=True, ids=str)
def test_gradients_are_those_of_separate_documents_in_plain_transformers(model):
    rows = mixed_rows(24, 150)
    actual = step_gradients(model, rows, range(4))
    model.zero_grad()
    total = 0.0
    for tokens, labels in documents(rows):
        loss = model(tokens[None], labels=labels[None], num_items_in_batch=actual.tokens).loss
        loss.backward()
        total += loss.item()
    expected = {name: p.grad for name, p in adapter_parameters(model).items()}
    assert actual.loss == pytest.approx(total, rel=CLOSE)
    assert actual.tokens == int((rows.labels != IGNORED).sum())
    assert len(expected) == 2 * 7 * 2
    worst = compare(actual.tensors, expected)[0]
    assert worst.relative < CLOSE, worst
    assert all(error.norm > 0 for error in compare(actual.tensors, expected))


class _Sequential(Trainer):
    """Hugging Face's trainer, every sample in its order."""

    def _get_train_sampler(self, train_dataset=None):
        return torch.utils.data.SequentialSampler(self.train_dataset)


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(
            steps=6,
            learning_rate=0.01,
            eps=1e-6,
            grad_accum=2,
            weight_decay=0.1,
            schedule="cosine",
            warmup_steps=2,
        ),
        TrainSettings(
            steps=5,
            learning_rate=0.02,
            optimizer="sgd",
            batch_size=2,
            schedule="linear",
            max_grad_norm=0.5,
        ),
        TrainSettings(steps=4, learning_rate=0.01, optimizer="sgd", momentum=0.9),
    ],
    ids=["adamw-cosine", "sgd-linear-clipped", "sgd-momentum"],
)
def test_training_is_that_of_the_trainer_of_transformers(model, tmp_path, settings):
    settings = replace(settings, order="sequential")
    rows = mixed_rows(24, 150)
    first = [{"input_ids": tokens, "labels": labels} for tokens, labels in documents(rows)[:2]]
    rows = Rows(rows.tokens[:2], rows.labels[:2], rows.positions[:2], rows.start[:2])
    start = {name: p.detach().clone() for name, p in adapter_parameters(model).items()}
    steps = list(train(model, rows, settings))
    actual = {name: p.detach().clone() for name, p in adapter_parameters(model).items()}
    with torch.no_grad():
        for name, parameter in adapter_parameters(model).items():
            parameter.copy_(start[name])

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        optim="adamw_torch" if settings.optimizer == "adamw" else "sgd",
        optim_args=f"momentum={settings.momentum or 0}" if settings.optimizer == "sgd" else None,
        weight_decay=settings.weight_decay or 0,
        adam_epsilon=settings.eps or 0,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        max_grad_norm=settings.max_grad_norm,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.batch_size * settings.grad_accum,
        use_cpu=True,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = _Sequential(model=model, args=arguments, train_dataset=first)
    trainer.data_collator = lambda batch: {k: v[None] for k, v in batch[0].items()}
    trainer.train()
    expected = {name: p.detach() for name, p in adapter_parameters(model).items()}
    moved = [(expected[name] - start[name]).norm() for name in expected]
    assert min(moved) > 1e-4
    errors = [
        ((actual[name] - expected[name]).norm() / moved[i]).item()
        for i, name in enumerate(expected)
    ]
    assert max(errors) < 10 * CLOSE  # over six steps
    assert [step.samples for step in steps[:2]] in ([[0, 1], [0, 1]], [[0], [1]])


def test_a_new_adapter_has_no_gradient_for_a_and_a_perturbed_one_has(make_bundle, tmp_path):
    bundle = Bundle.open(make_bundle("llama", True))
    gradients = step_gradients(build_model(bundle), mixed_rows(24, 150), [0])
    assert all(
        (tensor.norm() == 0) == ("lora_A" in name) for name, tensor in gradients.tensors.items()
    )
    write_perturbed_adapter(bundle, tmp_path / "adapter.ptd", seed=0)
    model = build_model(bundle, tmp_path / "adapter.ptd")
    gradients = step_gradients(model, mixed_rows(24, 150), [0])
    assert all(tensor.norm() > 0 for tensor in gradients.tensors.values())


def test_compare_finds_what_is_wrong():
    expected = {f"layers.0.self_attn.{n}.lora_A.weight": torch.ones(4) for n in "abcd"}
    actual = {name: tensor.clone() for name, tensor in expected.items()}
    names = list(expected)
    actual[names[1]][0] = 3.0
    actual[names[2]][0] = float("nan")
    del actual[names[3]]
    errors = compare(actual, expected)
    assert [error.name for error in errors] == [names[2], names[3], names[1], names[0]]
    assert [error.relative for error in errors] == [float("inf"), float("inf"), 1.0, 0.0]
    assert errors[0] == TensorError(names[2], float("inf"), 2.0)
    assert errors[0].group == "c.lora_A"


def test_sampler_visits_every_sample_once_an_epoch():
    # Literal values: what any implementation of the documented order must give.
    assert permutation(8, seed=7, epoch=0) == [1, 4, 5, 2, 6, 0, 3, 7]
    assert permutation(8, seed=7, epoch=1) == [3, 5, 0, 2, 4, 1, 7, 6]
    assert permutation(8, seed=8, epoch=0) == permutation(8, seed=7, epoch=1)
    samples = sample_indices(5, 3, "shuffled")
    for _ in range(4):
        assert sorted(next(samples) for _ in range(5)) == list(range(5))
    sequential = sample_indices(3, 3, "sequential")
    assert [next(sequential) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
