"""B alone, by its exact gradients: A keeps its bits, and costs nothing but its values."""

import pytest
from safetensors.torch import load_file

from tests.runtime.running import error_of, records
from toolkit.bundle.bundle import Bundle
from toolkit.data.dataset import read_rows
from toolkit.oracle.gradients import compare
from toolkit.oracle.model import adapter_parameters, build_exact_model
from toolkit.oracle.training import train
from toolkit.settings.training import TrainSettings

PREFIX = "base_model.model.model."
STEPS = 6
SETTINGS = {
    "sgd": {"optimizer": "sgd", "lr": 0.2, "grad_accum": 2},
    "adamw": {"lr": 0.01, "weight_decay": 0.1, "max_grad_norm": 0.3, "state": "spill"},
    "lcsb": {"method": "lcsb", "blocks": 1, "lr": 0.01, "max_grad_norm": 0.3, "clipping": "twice"},
}


def adapter_of(out):
    tensors = load_file(out / "adapter_model.safetensors")
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def bits(tensor):
    return tensor.numpy().tobytes()


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_are_those_of_pytorch(make_case, tmp_path, name):
    """With A's parameters frozen: losses, norms of what is left, and the adapter."""
    case = make_case()
    words = {"steps": STEPS, "freeze": "a", **SETTINGS[name]}
    out = case.train(tmp_path / "run", **words)
    exact = build_exact_model(Bundle.open(case.bundle), case.adapter)
    before = {n: p.detach().float().clone() for n, p in adapter_parameters(exact).items()}
    expected = list(train(exact, read_rows(case.data), TrainSettings.of(words)))
    for step, wanted in zip(records(out, "step"), expected, strict=True):
        assert step["loss"] == pytest.approx(wanted.loss, rel=1e-4)
        assert step["grad_norm"] == pytest.approx(wanted.grad_norm, rel=1e-3)
    actual = adapter_of(out)
    moved = {
        n: p.detach() - before[n] for n, p in adapter_parameters(exact).items() if ".lora_B." in n
    }
    worst = compare({n: actual[n].double() - before[n] for n in moved}, moved)[0]
    assert worst.relative < 2e-3, worst
    frozen = {n: v for n, v in actual.items() if ".lora_A." in n}
    assert frozen and all(bits(v) == bits(before[n]) for n, v in frozen.items())


def test_the_state_remembers_nothing_of_a(case, tmp_path):
    """A resume goes on with the same bits, and refuses another choice."""
    options = {"lr": 0.01, "freeze": "a"}
    whole = case.train(tmp_path / "whole", steps=4, **options)
    out = case.train(tmp_path / "run", steps=4, until=2, **options)
    content = (out / "state.bin").read_bytes()
    assert b"array adapter layers.0.self_attn.q_proj.lora_A.weight" in content
    for moment in (b"first_moment", b"second_moment"):
        lines = [line for line in content.split(b"\n") if line.startswith(b"array " + moment)]
        assert lines and all(b".lora_B." in line for line in lines)
    message = error_of("train", **case.options(out, steps=4, resume=True, lr=0.01))
    assert "was saved with freeze a, not none. Resume with the same --freeze" in message
    case.train(out, steps=4, resume=True, **options)
    assert (out / "state.bin").read_bytes() == (whole / "state.bin").read_bytes()


def test_who_reads_it_not_says_so(case, tmp_path):
    options = case.options(tmp_path / "run", steps=1, method="mobizo", freeze="a")
    message = error_of("train", 2, **options)
    assert "--freeze is an option of --method exact, and mobizo does not read it" in message
