"""Steps that change some layers: lcsb's surrogate and block-coordinate, against PyTorch."""

import pytest
import torch
from safetensors.torch import load_file

from tests.runtime.running import error_of, records
from toolkit.bundle.bundle import Bundle
from toolkit.data.dataset import read_rows
from toolkit.oracle.gradients import compare
from toolkit.oracle.model import adapter_parameters, build_exact_model
from toolkit.oracle.training import train
from toolkit.settings.training import TrainSettings

PREFIX = "base_model.model.model."
STEPS = 9
LOSS = 1e-4  # rounding grows from step to step, and AdamW makes the smallest gradient a whole one
SETTINGS = {
    "lcsb": {"method": "lcsb", "blocks": 1, "optimizer": "sgd", "lr": 0.2, "grad_accum": 2},
    "lcsb-adamw": {
        "method": "lcsb", "blocks": 2, "selection": "importance", "lr": 0.01, "weight_decay": 0.1,
        "seed": 3, "checkpoints": "spill", "state": "spill",
    },
    "lcsb-layers": {
        "method": "lcsb", "blocks": 1, "layers": "0,2", "optimizer": "sgd", "lr": 0.2,
        "max_grad_norm": 0.3,
    },
    "block-coordinate": {
        "method": "block-coordinate", "blocks": 1, "lr": 0.01, "max_grad_norm": 0.3,
        "clipping": "twice",
    },
    "block-importance": {
        "method": "block-coordinate", "blocks": 2, "selection": "importance", "lr": 0.01,
        "max_grad_norm": 0.3, "clipping": "last-norm",
    },
}  # fmt: skip


def adapter_of(out):
    tensors = load_file(out / "adapter_model.safetensors")
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("model", [("llama", True, "mesp"), ("qwen2", False, "mebp")], ids=str)
def test_steps_are_those_of_pytorch(make_case, tmp_path, model, name):
    case = make_case(*model)
    out = case.train(tmp_path / "run", steps=STEPS, **SETTINGS[name])
    exact = build_exact_model(Bundle.open(case.bundle), case.adapter)
    settings = TrainSettings.of({"steps": STEPS, **SETTINGS[name]})
    before = {n: p.detach().float().clone() for n, p in adapter_parameters(exact).items()}
    expected = list(train(exact, read_rows(case.data), settings))
    for step, wanted in zip(records(out, "step"), expected, strict=True):
        assert step["samples"] == wanted.samples
        assert step["loss"] == pytest.approx(wanted.loss, rel=LOSS)
        assert step["grad_norm"] == pytest.approx(wanted.grad_norm, rel=1e-3)
    actual = adapter_of(out)
    wanted = {n: p.detach() for n, p in adapter_parameters(exact).items()}
    moved = {n: values - before[n] for n, values in wanted.items()}
    worst = compare({n: actual[n].double() - before[n] for n in moved}, moved)[0]
    assert worst.relative < 0.02, worst


@pytest.mark.parametrize("method", ["lcsb", "block-coordinate"])
@pytest.mark.parametrize("more", [{}, {"layers": "0,2", "max_grad_norm": 0.3}], ids=["all", "some"])
def test_all_layers_are_the_exact_method_bit_by_bit(case, tmp_path, method, more):
    settings = {"steps": 5, "lr": 0.01, **more}
    exact = case.train(tmp_path / "exact", **settings)
    for selection in ("cyclic", "importance"):
        chosen = {"method": method, "blocks": 3, "selection": selection}
        out = case.train(tmp_path / selection, **settings, **chosen)
        name = "adapter_model.safetensors"
        assert (out / name).read_bytes() == (exact / name).read_bytes()
        assert [s["loss"] for s in records(out, "step")] == [
            s["loss"] for s in records(exact, "step")
        ]


@pytest.mark.parametrize(
    ("method", "passed"), [("lcsb", [1, 1, 1]), ("block-coordinate", [3, 2, 1])]
)
def test_a_step_has_the_passes_and_states_of_its_layers(case, tmp_path, method, passed):
    """Of cyclic choices; the layers that are not chosen keep their bits."""
    runs = [
        case.train(tmp_path / str(n), steps=n, method=method, blocks=1, lr=0.01)
        for n in range(1, 4)
    ]
    phases = [p for p in records(runs[-1], "phase") if p["phase"] == "backward"]
    assert [sum(p["step"] == step for p in phases) for step in (1, 2, 3)] == passed
    before = adapter_of(runs[0])
    for layer, out in enumerate(runs[1:], 1):
        now = adapter_of(out)
        changed = {n.split(".")[1] for n in now if not torch.equal(now[n], before[n])}
        assert changed == {str(layer)}
        before = now
    if method == "lcsb":
        held = [max(p["ledger"]["checkpoints"] for p in records(runs[-1], "phase"))]
        exact = case.train(tmp_path / "exact", steps=1)
        whole = max(p["ledger"]["checkpoints"] for p in records(exact, "phase"))
        # Its input, the running state and the one that is written, of three inputs.
        assert held == [whole * 3 // 5]


def test_importance_finds_the_layers_with_large_gradients(case, tmp_path):
    """Each in proportion to its norm: no layer is left out, and all are tried first."""
    settings = {"method": "lcsb", "blocks": 1, "selection": "importance", "lr": 1e-4}
    out = case.train(tmp_path / "run", steps=40, **settings)
    layers = [p["layer"] for p in records(out, "phase") if p["phase"] == "backward"]
    assert layers[:3] == [0, 1, 2] and set(layers[3:]) == {0, 1, 2}


def test_a_resume_goes_on_with_what_it_knew(case, tmp_path):
    settings = SETTINGS["lcsb-adamw"]
    whole = case.train(tmp_path / "whole", steps=STEPS, **settings)
    out = case.train(tmp_path / "run", steps=4, **settings)
    case.train(out, steps=STEPS, resume=True, **settings)
    assert (out / "state.bin").read_bytes() == (whole / "state.bin").read_bytes()


def test_other_methods_choose_no_layers(case, tmp_path):
    given = case.options(tmp_path / "run", blocks=2)
    assert "--blocks is an option of --method lcsb" in error_of("train", code=2, **given)
