"""Runs, gradients and evaluations in fixed16: other bits than float32's, and close to them."""

import json

import pytest
from safetensors.torch import load_file

from tests.runtime.running import records, run
from tests.support.tiny import relative_error

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
