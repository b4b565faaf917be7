"""`toolkit verify` and `toolkit evaluate` on this machine as a device."""

import json

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.test_data import toolkit
from tests.oracle.rows import mixed_rows
from tests.support.bundles import export_tiny
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.data.dataset import read_rows, write_rows
from toolkit.oracle.gradients import step_gradients
from toolkit.oracle.model import build_model
from toolkit.oracle.verification import verification_rows, write_perturbed_adapter


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify") / "tiny"
    return export_tiny(folder, "qwen2", tied=False, seq_lens=(16, 24))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_verify_passes_and_cleans_up(bundle, home):
    output = toolkit("verify", bundle, "--threads", 1).output
    assert "passed: tolerance 1e-04" in output
    assert "q_proj.lora_A" in output and "worst tensors:" in output
    assert list((home / "scratch").iterdir()) == []


def test_verify_as_json_on_data(bundle, tmp_path):
    toolkit("data", "--random", 3, "--bundle", bundle, "-o", tmp_path / "data")
    words = ("verify", bundle, "--data", tmp_path / "data", "--samples", 2, "--json")
    report = json.loads(toolkit(*words).stdout)
    assert report["passed"] and report["tokens"] == 48
    errors = [tensor["relative_error"] for tensor in report["tensors"]]
    assert len(errors) == 28 and errors == sorted(errors, reverse=True)
    assert 0 < errors[0] < 1e-5 and report["loss_error"] < 1e-6


def test_verify_fails_above_the_tolerance(bundle):
    result = toolkit("verify", bundle, "--tolerance", 1e-12, code=1)
    assert "FAILED" in result.stdout
    assert result.stderr.startswith("error: layers.") and "more than 1.0e-12" in result.stderr


def test_verify_fails_for_another_model(bundle, tmp_path, monkeypatch):
    """The oracle sees another bundle than the device: the check must notice."""
    other = export_tiny(tmp_path / "other", "qwen2", tied=False, seq_lens=(16, 24), seed=2)
    monkeypatch.setattr("toolkit.device.commands.send_bundle", lambda *_: str(other))
    report = json.loads(toolkit("verify", bundle, "--json", code=1).stdout)
    assert not report["passed"] and report["tensors"][-1]["relative_error"] > 0.1


def test_verify_names_what_the_trainer_says(bundle, monkeypatch):
    monkeypatch.setattr("toolkit.device.commands.send_bundle", lambda *_: "/nowhere")
    error = toolkit("verify", bundle, code=1).stderr
    assert error.startswith("error: the trainer failed on device local: ") and "/nowhere" in error


def test_verification_rows_have_every_kind():
    rows = verification_rows(8, 30, 100, seed=0)
    labelled = (rows.labels != -100).sum(axis=1)
    assert labelled[0] == 30 and labelled[1] == 20 and labelled[2] == 20
    assert 0 < labelled[3] < 30
    assert sorted(set(rows.start[2])) == [0, 10] and (rows.start[[0, 1, 3]] == 0).all()
    assert rows.tokens.min() >= 0 and rows.tokens.max() < 100
    assert (rows.tokens[4] != rows.tokens[0]).any()
    for shortest in (1, 2, 3):
        assert (verification_rows(4, shortest, 9, 0).labels != -100).any(axis=1).all()


@pytest.fixture
def evaluation(bundle, tmp_path):
    """Return data directory, PEFT adapter and the oracle's losses without and with it."""
    opened = Bundle.open(bundle)
    data, adapter = tmp_path / "data", tmp_path / "adapter"
    toolkit("data", "--random", 1, "--bundle", bundle, "-o", data)
    write_rows(data / "validation.ptd", mixed_rows(24, 150))
    adapter.mkdir()
    write_perturbed_adapter(opened, tmp_path / "adapter.ptd", seed=4)
    reader = FlatTensorReader(tmp_path / "adapter.ptd")
    tensors = {f"base_model.model.model.{name}": reader.tensor(name) for name in reader.keys()}  # noqa: SIM118
    save_file(tensors, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_bytes((bundle / "adapter_config.json").read_bytes())
    rows = read_rows(data / "validation.ptd")
    losses = [
        step_gradients(build_model(opened, path, torch.float64), rows, range(4)).loss
        for path in (None, tmp_path / "adapter.ptd")
    ]
    return data, adapter, losses


def test_evaluate(bundle, evaluation):
    data, adapter, losses = evaluation
    words = ("evaluate", bundle, "--data", data, "--adapter", adapter)
    report = json.loads(toolkit(*words, "--json").stdout)
    assert report["split"] == "validation"
    for name, loss in zip(("without_adapter", "with_adapter"), losses, strict=True):
        assert report[name]["loss"] == pytest.approx(loss, rel=1e-6)
        assert report[name]["samples"] == 4
    assert abs(losses[0] - losses[1]) > 1e-3
    output = toolkit(*words, "--max-samples", 2, "--split", "train").output
    assert "without adapter" in output and "24 labelled tokens in 1 sequences" in output


def test_evaluate_mistakes(bundle, evaluation, tmp_path):
    data, *_ = evaluation
    error = toolkit("evaluate", bundle, "--data", tmp_path, code=1).stderr
    assert "has no validation.ptd" in error
    toolkit("evaluate", bundle, "--data", data, "--split", "test", code=2)
    error = toolkit("evaluate", bundle, "--data", data, "--adapter", tmp_path, code=1).stderr
    assert "has no adapter_model.safetensors" in error
