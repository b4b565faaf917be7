"""The verdict on a device's gradients, and the float64 model that settles doubtful ones."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.bundles import export_tiny
from toolkit.api import judging
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader, write_flat_tensor
from toolkit.ops.approximate import RESILU2_THRESHOLDS
from toolkit.oracle.gradients import Gradients, compare, step_gradients
from toolkit.oracle.model import build_exact_model, build_model
from toolkit.oracle.thresholds import gates_of
from toolkit.oracle.verification import (
    ROUNDING_CAP,
    judge,
    judge_rounding,
    verification_rows,
    write_perturbed_adapter,
)

TRUTH = torch.tensor([1.0, 0.0])


def _gradients(error: float) -> Gradients:
    """Gradients that are off by `error` in one tensor and right in the other."""
    off = TRUTH + torch.tensor([0.0, error])
    tensors = {"layers.0.q_proj.lora_A.weight": off, "layers.0.q_proj.lora_B.weight": TRUTH}
    return Gradients(2.0, 5, tensors)


@pytest.mark.parametrize(
    ("device", "pytorch", "passed"),
    [
        (-2e-4, 2e-4, True),  # both are as far from float64, on different sides
        (-9e-4, 2e-4, False),  # more than four times as far as PyTorch
        (-3e-3, 2e-3, False),  # no excuse reaches beyond ten tolerances
        (0.5, 0.0, False),
        (float("nan"), 2e-4, False),
    ],
)
def test_float64_settles_what_float32_cannot(device, pytorch, passed):
    actual, oracle, exact = _gradients(device), _gradients(pytorch), _gradients(0.0)
    verdict = judge(actual, oracle)
    assert not verdict.passed
    settled = judge_rounding(verdict, actual, oracle, exact)
    assert settled.passed is passed
    assert set(settled.rounding) == {"layers.0.q_proj.lora_A.weight"}
    assert len(settled.errors) == 2 and settled.errors[0].name in settled.rounding
    assert settled.to_json()["tensors"][0]["float32_rounding"] == pytest.approx(pytorch, abs=1e-9)


def test_a_wrong_loss_is_not_settled():
    actual = _gradients(0.0)
    wrong = Gradients(2.1, 5, actual.tensors)
    verdict = judge(wrong, actual)
    assert not judge_rounding(verdict, wrong, actual, actual).passed


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_exact_model_computes_in_float64(tmp_path, family):
    """Doubling the working precision of the input must not show: no part falls back to float32."""
    bundle = Bundle.open(export_tiny(tmp_path / "tiny", family, tied=True, seq_lens=(16,)))
    adapter = tmp_path / "adapter.ptd"
    write_perturbed_adapter(bundle, adapter, seed=0)
    rows = verification_rows(3, 16, bundle.config.vocab_size, seed=0)
    exact = step_gradients(build_exact_model(bundle, adapter), rows, range(3))
    single = step_gradients(build_model(bundle, adapter), rows, range(3))
    mixed = step_gradients(build_model(bundle, adapter, torch.float64), rows, range(3))
    assert all(tensor.dtype == torch.float64 for tensor in exact.tensors.values())
    worst = compare(mixed.tensors, exact.tensors)[0].relative
    assert 0 < worst <= compare(single.tensors, exact.tensors)[0].relative < 1e-5


def adapter_at_thresholds(bundle: Bundle, path: Path) -> None:
    """Write an adapter that moves a gate of every feature of the first layer onto a threshold.

    For the rows that `verify` makes of one sample.
    """
    write_perturbed_adapter(bundle, path, seed=0)
    rows = verification_rows(1, bundle.manifest["seq_lens"][0], bundle.config.vocab_size, seed=0)
    model = build_exact_model(bundle, path)
    found = {}
    projection = model.get_base_model().model.layers[0].mlp.gate_proj
    projection.lora_A.default.register_forward_hook(
        lambda module, given, output: found.update(h=output[0].detach())
    )
    gates, h = gates_of(model, rows, [0])[0][0][0], found["h"]
    reader = FlatTensorReader(path)
    names = reader.keys()
    tensors = {name: reader.tensor(name).clone() for name in names}
    b = tensors["layers.0.mlp.gate_proj.lora_B.weight"]
    scale = bundle.manifest["lora"]["alpha"] / bundle.manifest["lora"]["rank"]
    for feature in range(len(b)):
        at = 1 + feature % 20
        off = RESILU2_THRESHOLDS[1] - gates[at, feature]
        b[feature] += (off / scale * h[at] / h[at].square().sum()).float()
    specs = [reader.spec(name) for name in names]
    write_flat_tensor(path, specs, iter(tensors.values()))


def test_elements_at_thresholds_may_have_the_slope_of_either_side(tmp_path, monkeypatch):
    """The engine and PyTorch round 96 gates to either side of one; nothing else is excused."""
    bundle = Bundle.open(export_tiny(tmp_path / "tiny", "llama", lowering="approx-bp"))
    adapter_at_thresholds(bundle, tmp_path / "adapter.ptd")

    def copied(_bundle: Bundle, path: Path, _seed: int) -> None:
        path.write_bytes((tmp_path / "adapter.ptd").read_bytes())

    monkeypatch.setattr(judging, "write_perturbed_adapter", copied)
    verdict = judging.verify(bundle.path, samples=1, threads=1)
    assert verdict.passed and verdict.near is not None
    assert not replace(verdict, near=None).passed
    assert 48 < verdict.near.count < 192
    worst = verdict.errors[0]
    assert worst.name.startswith("layers.0.") and worst.relative > 10 * verdict.tolerance
    above = {n: e for n, e in verdict.near.effects.items() if n.startswith("layers.1.")}
    assert above and set(above.values()) == {0.0}
    assert all(verdict.limit(name) <= ROUNDING_CAP * verdict.tolerance for name in above)
    wrong = replace(worst, relative=1.01 * verdict.limit(worst.name))
    assert not replace(verdict, errors=[wrong, *verdict.errors[1:]]).passed
    report = verdict.to_json()
    assert report["near_thresholds"] == verdict.near.count
