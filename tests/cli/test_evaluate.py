"""`toolkit evaluate` on this machine as a device, against PyTorch."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.test_data import toolkit
from tests.oracle.rows import mixed_rows
from tests.support.bundles import export_tiny
from tests.support.fake_trainer import write_fake_runtime
from tests.support.processes import processes_with, wait_for
from toolkit import __version__
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.cli.progress import Bar
from toolkit.data.dataset import read_rows, write_rows
from toolkit.oracle.gradients import step_gradients
from toolkit.oracle.model import build_model
from toolkit.oracle.verification import write_perturbed_adapter
from toolkit.sealed_json import seal


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("evaluate") / "tiny", "llama", tied=False)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))


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
    result = toolkit(*words, "--max-samples", 2, "--split", "train")
    assert "without adapter" in result.stdout
    assert "24 labelled tokens in 1 sequence\n" in result.stdout
    assert "with adapter: 1 of 1 sequence\n" in result.stderr
    onward = f"toolkit train --device local --steps 50 --adapter {adapter} --out NAME"
    assert result.stderr.endswith(f"next: {onward}\n")


def test_a_bar_knows_its_end_from_the_start(bundle, evaluation, monkeypatch):
    """What counts begins before the device has said anything."""
    data, *_ = evaluation
    seen = []

    class Seen(Bar):
        def add_task(self, description, total=None):
            seen.append((description, total))
            return super().add_task(description, total=total)

    monkeypatch.setattr("toolkit.cli.evaluate.Bar", Seen)
    toolkit("evaluate", bundle, "--data", data)
    toolkit("evaluate", bundle, "--data", data, "--max-samples", 3)
    assert seen == [("without adapter", 4), ("without adapter", 3)]


def test_evaluate_mistakes(bundle, evaluation, tmp_path):
    data, *_ = evaluation
    error = toolkit("evaluate", bundle, "--data", tmp_path, code=1).stderr
    assert "has no validation.ptd" in error
    toolkit("evaluate", bundle, "--data", data, "--split", "test", code=2)
    error = toolkit("evaluate", bundle, "--data", data, "--adapter", tmp_path, code=1).stderr
    assert "has no adapter_config.json" in error
    error = toolkit("evaluate", bundle, "--data", data, "--adapter", "nosuch", code=1).stderr
    assert error.startswith("error: nosuch does not exist. Give the folder that peft saved")


def test_what_is_damaged_or_of_another_model_is_refused(bundle, evaluation, tmp_path):
    data, *_ = evaluation
    facts = json.loads((data / "data.json").read_text())
    file = data / "train.ptd"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    words = ("--data", data, "--split", "train")
    assert "train.ptd does not match" in toolkit("evaluate", bundle, *words, code=1).stderr
    assert "train.ptd does not match" in toolkit("verify", bundle, *words[:2], code=1).stderr
    file.write_bytes(content)
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    manifest = json.loads((other / "manifest.json").read_text())
    for path, described, name in (
        (other / "manifest.json", manifest, "smol"),
        (data / "data.json", facts, "qwen"),
    ):
        described["tokenizer"] = {"name": name, "sha256": name * 9}
        path.write_text(json.dumps(seal(described)))
    said = f"{data} was made with the tokenizer of qwen, {other} has the tokenizer of smol"
    assert said in toolkit("evaluate", other, *words, code=1).stderr
    assert said in toolkit("verify", other, *words[:2], code=1).stderr


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_trainer_ends_with_its_command(bundle, evaluation, tmp_path, end):
    """However the command ends, nothing goes on computing, and the scratch folder is gone."""
    data, *_ = evaluation
    write_fake_runtime(tmp_path / "native", version=__version__)
    home = tmp_path / "home"
    process = subprocess.Popen(
        [sys.executable, "-m", "toolkit.cli.main", "evaluate", bundle, "--data", data],
        env={**os.environ, "TOOLKIT_NATIVE_DIR": str(tmp_path / "native")},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: processes_with(f"trainer evaluate --bundle {home}"), 60)
    assert len(list((home / "scratch").iterdir())) == 1
    os.killpg(process.pid, end)
    _, error = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(end, -end), error
    wait_for(lambda: not processes_with(str(home)), 10)
    assert list((home / "scratch").iterdir()) == []
