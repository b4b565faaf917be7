"""Adapters in some layers only, exported or trained, against PEFT with the same layers."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from tests.oracle.rows import mixed_rows
from tests.oracle.test_engine import GRADIENT_TOLERANCE, Case
from tests.support.bundles import export_tiny
from tests.support.trainer import read_trace, run_trainer
from toolkit.bundle.adapter import write_peft_adapter
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.errors import ToolkitError
from toolkit.layers import parse_layers
from toolkit.lora import PROJECTIONS, LoraSettings
from toolkit.oracle.batch import labelled, loss_sum
from toolkit.oracle.gradients import Gradients, compare, step_gradients
from toolkit.oracle.model import adapter_parameters

LAYERS = 4
# Frozen layers below, between and above those with adapters; smollm3 has two kinds of block.
SUBSETS = [("llama", "1,3", "mesp"), ("qwen2", "0-1", "mebp"), ("smollm3", "last:2", "mesp")]
RATE = 1e-2


@pytest.fixture(scope="module")
def bundle(request, tmp_path_factory) -> Path:
    family, layers, lowering = request.param
    lora = LoraSettings(4, 8.0, PROJECTIONS, layers=layers)
    folder = tmp_path_factory.mktemp("layers") / "bundle"
    return export_tiny(folder, family, lora=lora, lowering=lowering, layers=LAYERS)


def layers_of(names) -> set[int]:
    return {int(name.split("layers.")[1].split(".")[0]) for name in names}


def freeze(model, chosen: set[int]) -> None:
    for name, parameter in adapter_parameters(model).items():
        parameter.requires_grad_(layers_of([name]) <= chosen)


def check_gradients(case: Case, chosen: set[int], *words) -> None:
    """Compare loss and gradients of the chosen layers, and that there are no others."""
    out = case.folder / "gradients.safetensors"
    flags = ["--samples", "0,1,3", "--out", out, "--threads", 1]
    [result] = run_trainer("gradients", *case.arguments(), *flags, *words)
    actual = Gradients(result["loss"], result["tokens"], load_file(out))
    model = case.oracle()
    freeze(model, chosen)
    expected = step_gradients(model, case.rows, [0, 1, 3])
    assert layers_of(expected.tensors) == layers_of(actual.tensors) == chosen
    errors = compare(actual.tensors, expected.tensors)
    assert len(errors) == 2 * 7 * len(chosen) == len(actual.tensors)
    assert errors[0].relative < GRADIENT_TOLERANCE, errors[:5]
    assert min(error.norm for error in errors) > 0
    assert actual.loss == pytest.approx(expected.loss, rel=1e-6)


def check_training(case: Case, chosen: set[int], *words) -> Path:
    """Compare five steps with SGD in PyTorch, and that no layer below the lowest was visited."""
    run = case.folder / "run"
    flags = ["--steps", 5, "--lr", RATE, "--optimizer", "sgd", "--order", "sequential"]
    flags += ["--max-grad-norm", 0.5, "--grad-accum", 2, "--threads", 1]
    run_trainer("train", *case.arguments(), "--out", run, *flags, *words)
    model = case.oracle(exact=False)
    freeze(model, chosen)
    optimizer = torch.optim.SGD(adapter_parameters(model).values(), lr=RATE)
    for index, step in enumerate(read_trace(run, "step")):
        rows = [(2 * index + i) % 4 for i in range(2)]
        assert step["samples"] == rows
        expected = step_gradients(model, case.rows, rows)
        assert step["loss"] == pytest.approx(expected.loss, rel=1e-4)
        norm = torch.nn.utils.clip_grad_norm_(list(adapter_parameters(model).values()), 0.5)
        assert step["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
        optimizer.step()
    visited = {phase["layer"] for phase in read_trace(run, "phase") if phase["phase"] == "backward"}
    assert visited == set(range(min(chosen), LAYERS))
    return run


@pytest.mark.parametrize("bundle", SUBSETS, indirect=True, ids=lambda value: "-".join(value))
def test_adapters_exist_only_there(bundle, tmp_path, request):
    case = Case(bundle, tmp_path, mixed_rows(24, 150))
    chosen = set(parse_layers(request.node.callspec.params["bundle"][1], LAYERS))
    check_gradients(case, chosen)
    run = check_training(case, chosen)
    tuned = PeftModel.from_pretrained(case.bundle.reference_model(torch.float32), run)
    assert layers_of(n for n in tuned.state_dict() if ".lora_" in n) == chosen
    lora = LoraSettings.from_json(case.bundle.manifest["lora"])
    write_peft_adapter(run, case.bundle.adapter.specs(), lora, case.adapter)
    *_, last = run_trainer("evaluate", *case.arguments(), "--threads", 1)
    with torch.no_grad():
        losses = sum(loss_sum(tuned, case.rows, index).item() for index in range(4))
    assert last["loss"] == pytest.approx(losses / labelled(case.rows, range(4)), rel=1e-6)


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory) -> Path:
    return export_tiny(tmp_path_factory.mktemp("layers") / "everywhere", "llama", layers=LAYERS)


@pytest.mark.parametrize("layers", ["last:2", " 1, 3 - 3"])
def test_some_layers_are_trained(everywhere, tmp_path, layers):
    case = Case(everywhere, tmp_path, mixed_rows(24, 150))
    chosen = set(parse_layers(layers, LAYERS))
    check_gradients(case, chosen, "--layers", layers)
    run = check_training(case, chosen, "--layers", layers)
    started = FlatTensorReader(case.adapter)
    for name, tensor in load_file(run / "adapter_model.safetensors").items():
        before = started.tensor(name.removeprefix(PEFT_PREFIX))
        assert torch.equal(tensor, before) == (not layers_of([name]) <= chosen), name


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("4", "the model has 4 layers"),
        ("last:5", "at most last:4"),
        ("last:0", "at most last:4"),
        ("3-1", "expected 16-23"),
        ("1,,2", "expected 16-23"),
        ("1, ,2", "expected 16-23"),
        ("1 2", "expected 16-23"),
        ("-1", "expected 16-23"),
        ("last:x", "expected 16-23"),
    ],
)
def test_trainer_and_host_refuse_the_same_layers(everywhere, tmp_path, layers, message):
    case = Case(everywhere, tmp_path, mixed_rows(24, 150))
    words = ["--samples", 0, "--out", tmp_path / "out", f"--layers={layers}"]
    with pytest.raises(AssertionError, match=message):
        run_trainer("gradients", *case.arguments(), *words)
    with pytest.raises(ToolkitError, match=r"cannot be read|are not all there"):
        parse_layers(layers, LAYERS)


@pytest.mark.parametrize("bundle", SUBSETS[:1], indirect=True, ids=["llama"])
def test_layers_without_adapters_cannot_be_trained(bundle, tmp_path):
    case = Case(bundle, tmp_path, mixed_rows(24, 150))
    words = ["--samples", 0, "--out", tmp_path / "out", "--layers", "2-3"]
    with pytest.raises(AssertionError, match=r"layer 2 has no adapters, .* in layers 1,3"):
        run_trainer("gradients", *case.arguments(), *words)
    check_gradients(case, {3}, "--layers", "3")


def test_a_run_keeps_its_layers(everywhere, tmp_path):
    """Resuming goes on with the same bits, and never with other layers."""
    case = Case(everywhere, tmp_path, mixed_rows(24, 150))
    words = ["--lr", RATE, "--optimizer", "adamw", "--threads", 1, "--layers"]

    def train(run: str, steps: int, layers: str, *more: str) -> bytes:
        out = tmp_path / run
        flags = ["--out", out, "--steps", steps, *words, layers, *more]
        run_trainer("train", *case.arguments(), *flags)
        return (out / "adapter_model.safetensors").read_bytes()

    whole = train("whole", 4, "2-3")
    train("halves", 2, "last:2")
    with pytest.raises(AssertionError, match=r"layers 2-3, not 3\. Resume with the same --layers"):
        train("halves", 4, "3", "--resume")
    with pytest.raises(AssertionError, match="layers 2-3, not all"):
        train("halves", 4, "0-3", "--resume")
    assert train("halves", 4, "2-3", "--resume") == whole
