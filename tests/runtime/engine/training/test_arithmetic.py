"""Runs, gradients and evaluations in fixed16: other bits than float32's, and close to them."""

import json

import pytest
from safetensors.torch import load_file

from tests.runtime.kernels.native import integer_isas
from tests.runtime.running import error_of, records, run
from tests.support.tiny import relative_error
from toolkit.bundle.flat_tensor import FlatTensorReader, write_flat_tensor
from toolkit.choices import ARITHMETICS

TOLERANCE = 3e-3


def test_a_run_is_close_to_one_in_float32_and_says_what_it_is(case, tmp_path):
    usual = case.train(tmp_path / "float32")
    other = case.train(tmp_path / "fixed16", arithmetic="fixed16")
    losses = [case.losses(folder) for folder in (usual, other)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=TOLERANCE)
    settings = [records(folder, "run")[0]["settings"]["arithmetic"] for folder in (usual, other)]
    assert settings == ["float32", "fixed16"]


def test_gradients_and_losses_are_close_to_those_of_float32(case, tmp_path):
    files = {"bundle": case.bundle, "data": case.data, "adapter": case.adapter, "threads": 1}
    gradients, losses = [], []
    for arithmetic in ("float32", "fixed16"):
        out = tmp_path / f"{arithmetic}.safetensors"
        run("gradients", **files, samples="0,1", out=out, arithmetic=arithmetic)
        gradients.append(load_file(out))
        lines = run("evaluate", **files, arithmetic=arithmetic).stdout.splitlines()
        losses.append(json.loads(lines[-1])["loss"])
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=TOLERANCE)
    usual, other = gradients
    errors = [relative_error(other[name], usual[name]) for name in usual]
    assert 0 < max(errors) < TOLERANCE


def larger_adapter(case, path, projection, factor):
    """The case's, A and B of a projection of layer 1 multiplied."""
    reader = FlatTensorReader(case.adapter)
    names = list(reader.keys())
    chosen = [name for name in names if ".1." in name and f".{projection}." in name]
    assert len(chosen) == 2, names
    write_flat_tensor(
        path,
        [reader.spec(name) for name in names],
        (reader.tensor(name) * (factor if name in chosen else 1) for name in names),
    )
    return path


@pytest.mark.parametrize("isa", integer_isas())
@pytest.mark.parametrize("projection", ["q_proj", "gate_proj", "down_proj"])
def test_what_overflows_ends_a_step_in_the_words_of_float32(
    case, tmp_path, monkeypatch, isa, projection
):
    """Infinite queries, gates and outputs, of which the first two are written as whole numbers."""
    monkeypatch.setenv("TOOLKIT_ISA", isa)
    adapter = larger_adapter(case, tmp_path / "adapter.ptd", projection, 1e25)
    messages = [
        error_of("train", **case.options(tmp_path / name, adapter=adapter, arithmetic=name))
        for name in ARITHMETICS
    ]
    assert messages[0] == messages[1]
    assert "the output of layer 1 is not finite" in messages[0]


@pytest.mark.parametrize("isa", integer_isas())
def test_huge_activations_are_neither_clamped_nor_an_error(case, tmp_path, monkeypatch, isa):
    """Of 10^9 and more, with the losses of float32."""
    monkeypatch.setenv("TOOLKIT_ISA", isa)
    adapter = larger_adapter(case, tmp_path / "adapter.ptd", "gate_proj", 1e6)
    files = {"bundle": case.bundle, "data": case.data, "threads": 1}

    def loss_of(adapter, arithmetic):
        lines = run("evaluate", **files, adapter=adapter, arithmetic=arithmetic).stdout
        return json.loads(lines.splitlines()[-1])["loss"]

    usual, other = (loss_of(adapter, arithmetic) for arithmetic in ARITHMETICS)
    assert other == pytest.approx(usual, rel=TOLERANCE)
    assert abs(usual / loss_of(case.adapter, "float32") - 1) > 10 * TOLERANCE
