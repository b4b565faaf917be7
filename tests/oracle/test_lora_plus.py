"""LoRA+ against the optimizer that PEFT makes for it."""

import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file

from tests.oracle.rows import mixed_rows
from tests.oracle.test_engine import Case
from tests.support.trainer import run_trainer
from toolkit.oracle.gradients import step_gradients
from toolkit.oracle.model import adapter_parameters

RATIO, RATE, STEPS = 8.0, 2e-3, 6
OPTIMIZERS = [
    pytest.param("sgd", torch.optim.SGD, {"momentum": 0.9}, id="sgd"),
    pytest.param("adamw", torch.optim.AdamW, {"betas": (0.9, 0.999), "eps": 1e-6}, id="adamw"),
]


@pytest.mark.parametrize(("name", "kind", "options"), OPTIMIZERS)
def test_b_learns_at_its_own_rate(make_bundle, tmp_path, name, kind, options):
    case = Case(make_bundle("llama", True), tmp_path, mixed_rows(24, 150))
    run = tmp_path / "run"
    words = ["--steps", STEPS, "--lr", RATE, "--optimizer", name, "--order", "sequential"]
    words += ["--lora-plus-ratio", RATIO, "--weight-decay", 0.1, "--threads", 1]
    words += ["--momentum", 0.9] if name == "sgd" else ["--eps", 1e-6]
    run_trainer("train", *case.arguments(), "--out", run, *words)
    model = case.oracle(exact=False)
    before = {name: p.detach().clone() for name, p in adapter_parameters(model).items()}
    optimizer = create_loraplus_optimizer(
        *(model, kind), lr=RATE, loraplus_lr_ratio=RATIO, loraplus_weight_decay=0.1, **options
    )
    for step in range(STEPS):
        step_gradients(model, case.rows, [step % 4])
        optimizer.step()
    saved = load_file(run / "adapter_model.safetensors")
    for key, parameter in adapter_parameters(model).items():
        moved = (parameter.detach() - before[key]).norm()
        off = (saved[f"base_model.model.model.{key}"] - parameter.detach()).norm()
        assert off < 0.01 * moved, key
