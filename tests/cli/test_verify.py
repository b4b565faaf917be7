"""`toolkit verify` on this machine as a device."""

import json

import pytest

from tests.cli.test_data import toolkit
from tests.support.bundles import export_tiny
from toolkit.oracle.verification import verification_rows


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify") / "tiny"
    return export_tiny(folder, "qwen2", tied=False, seq_lens=(16, 24))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_verify_passes_and_cleans_up(bundle, home):
    result = toolkit("verify", bundle, "--threads", 1)
    output = result.output
    assert result.stderr.endswith(f"next: toolkit deploy {bundle} --data DATA --device local\n")
    assert "passed: tolerance 1e-04" in output
    assert "q_proj.lora_A" in output and "worst tensors:" in output
    assert list((home / "scratch").iterdir()) == []


def test_verify_as_json_on_data(bundle, tmp_path):
    toolkit("data", "--random", 3, "--bundle", bundle, "-o", tmp_path / "data")
    words = ("verify", bundle, "--data", tmp_path / "data", "--samples", 2, "--json")
    report = json.loads(toolkit(*words).stdout)
    assert report["passed"] and report["tokens"] == 48
    assert report["approximate_gradients"] is None
    errors = [tensor["relative_error"] for tensor in report["tensors"]]
    assert len(errors) == 28 and errors == sorted(errors, reverse=True)
    assert 0 < errors[0] < 1e-5 and report["loss_error"] < 1e-6


def test_verify_says_how_far_approximate_gradients_are_from_the_models_own(tmp_path):
    bundle = export_tiny(tmp_path / "tiny", "qwen2", seq_lens=(16,), lowering="approx-bp")
    report = json.loads(toolkit("verify", bundle, "--json").stdout)
    assert report["passed"] and report["tensors"][0]["relative_error"] < 1e-5
    off = report["approximate_gradients"]
    assert 0.01 < off["relative"] < 0.6 and 0.8 < off["cosine"] < 1
    text = toolkit("verify", bundle).output
    assert f"off by {off['relative']:.2f} from the model's (cosine {off['cosine']:.3f})" in text


def test_verify_fails_above_the_tolerance(bundle):
    result = toolkit("verify", bundle, "--tolerance", 1e-12, code=1)
    assert "FAILED" in result.stdout
    assert result.stderr.startswith("error: layers.") and "more than 1.0e-12" in result.stderr


def test_verify_fails_for_another_model(bundle, tmp_path, monkeypatch):
    """The oracle sees another bundle than the device: the check must notice."""
    other = export_tiny(tmp_path / "other", "qwen2", tied=False, seq_lens=(16, 24), seed=2)
    monkeypatch.setattr("toolkit.api.judging.send_bundle", lambda *_: str(other))
    report = json.loads(toolkit("verify", bundle, "--json", code=1).stdout)
    assert not report["passed"] and report["tensors"][-1]["relative_error"] > 0.1


def test_verify_names_what_the_trainer_says(bundle, monkeypatch):
    monkeypatch.setattr("toolkit.api.judging.send_bundle", lambda *_: "/nowhere")
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
