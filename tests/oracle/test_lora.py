"""LoRA as PEFT knows it: scales, ranks and alphas of single targets, against PEFT itself."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from tests.oracle.rows import mixed_rows
from tests.oracle.test_engine import GRADIENT_TOLERANCE, Case
from tests.support.bundles import export_tiny
from tests.support.trainer import run_trainer
from toolkit.bundle.adapter import write_peft_adapter
from toolkit.lora import PROJECTIONS, LoraSettings
from toolkit.oracle.batch import labelled, loss_sum
from toolkit.oracle.gradients import compare, step_gradients

PATTERNS = LoraSettings(
    *(4, 6.0, PROJECTIONS, True),
    rank_pattern=(("gate_proj", 2), ("q_proj", 7)),
    alpha_pattern=(("down_proj", 3.5), ("v_proj", 9.0)),
)
RSLORA = LoraSettings(4, 6.0, ("all-linear",), rslora=True)
BUNDLES = [
    pytest.param(("llama", PATTERNS, "mesp"), id="patterns-mesp"),
    pytest.param(("granite", PATTERNS, "mesp"), id="patterns-multipliers"),
    pytest.param(("llama", PATTERNS, "mebp"), id="patterns-mebp"),
    pytest.param(("qwen2", RSLORA, "mesp"), id="rslora"),
]


@pytest.fixture(scope="module")
def bundle(request, tmp_path_factory) -> Path:
    family, lora, lowering = request.param
    folder = tmp_path_factory.mktemp("lora") / "bundle"
    return export_tiny(folder, family, lora=lora, lowering=lowering)


@pytest.mark.parametrize("bundle", BUNDLES, indirect=True)
def test_gradients(bundle, tmp_path):
    case = Case(bundle, tmp_path, mixed_rows(24, 150))
    actual = case.gradients([0, 1, 3])
    expected = step_gradients(case.oracle(), case.rows, [0, 1, 3])
    errors = compare(actual.tensors, expected.tensors)
    assert len(errors) == 2 * 7 * 2 == len(actual.tensors)
    assert errors[0].relative < GRADIENT_TOLERANCE, errors[:5]
    assert min(error.norm for error in errors) > 0
    assert actual.loss == pytest.approx(expected.loss, rel=1e-6)


@pytest.mark.parametrize("bundle", BUNDLES[:1], indirect=True)
def test_peft_loads_what_was_trained(bundle, tmp_path):
    """The run's folder alone gives PEFT the same model: scales and ranks are in its files."""
    case = Case(bundle, tmp_path, mixed_rows(24, 150))
    run = tmp_path / "run"
    words = ["--steps", 4, "--lr", 1e-2, "--optimizer", "sgd", "--threads", 1]
    run_trainer("train", *case.arguments(), "--out", run, *words)
    tuned = PeftModel.from_pretrained(case.bundle.reference_model(torch.float32), run)
    saved = load_file(run / "adapter_model.safetensors")
    names = {name.replace(".default", "") for name in tuned.state_dict() if ".lora_" in name}
    assert set(saved) == names
    lora = LoraSettings.from_json(case.bundle.manifest["lora"])
    write_peft_adapter(run, case.bundle.adapter.specs(), lora, case.adapter)
    *_, last = run_trainer("evaluate", *case.arguments(), "--threads", 1)
    with torch.no_grad():
        losses = sum(loss_sum(tuned, case.rows, index).item() for index in range(4))
    assert last["loss"] == pytest.approx(losses / labelled(case.rows, range(4)), rel=1e-6)
