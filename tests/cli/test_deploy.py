"""`toolkit deploy` and `toolkit pull` on this machine as a device."""

import json
import os

import pytest

from tests.cli.test_devices import toolkit
from tests.support.fake_trainer import write_fake_bundle, write_fake_runtime
from toolkit import __version__


@pytest.fixture
def environment(tmp_path):
    """Return the environment of a machine whose own runtime is the stand-in."""
    write_fake_runtime(tmp_path / "native", version=__version__)
    return {
        "TOOLKIT_NATIVE_DIR": str(tmp_path / "native"),
        "TOOLKIT_HOME": str(tmp_path / "home"),
    }


def test_deploy_sends_only_what_differs(tmp_path, environment):
    bundle, data = write_fake_bundle(tmp_path)
    words = ("deploy", str(bundle), "--data", str(data), "--json")
    first = json.loads(toolkit(*words, **environment))
    assert (first["bundle"], first["data"]) == ("bundle", "data")
    assert first["transfers"]["bundle"] == {
        "sent": 256_002,
        "unchanged": 0,
        "resumed": 0,
        "files": 2,
    }
    (data / "train.ptd").write_bytes(b"TOKENS")
    again = json.loads(toolkit(*words, **environment))
    assert again["transfers"]["bundle"]["files"] == 0
    assert again["transfers"]["data"]["files"] == 1
    assert (tmp_path / "home/data/data/train.ptd").read_bytes() == b"TOKENS"
    assert os.access(first["runtime"] + "/trainer", os.X_OK)


def test_deploy_under_another_name(tmp_path, environment):
    bundle, data = write_fake_bundle(tmp_path)
    toolkit("deploy", str(bundle), "--data", str(data), "--name", "chat", **environment)
    assert (tmp_path / "home/bundles/chat/base.ptd").is_file()
    assert (tmp_path / "home/data/chat/train.ptd").is_file()
    error = toolkit("deploy", str(bundle), "--name", "../up", code=1, **environment)
    assert "'../up' cannot name a bundle" in error


def test_deploy_refuses_other_folders(tmp_path, environment):
    bundle, _ = write_fake_bundle(tmp_path)
    error = toolkit("deploy", str(tmp_path), code=1, **environment)
    assert "is not a bundle (it has no manifest.json). Run `toolkit export" in error
    error = toolkit("deploy", str(bundle), "--data", str(bundle), code=1, **environment)
    assert "is not a data set" in error


def test_deploy_names_both_versions_when_they_differ(tmp_path, environment):
    bundle, _ = write_fake_bundle(tmp_path)
    write_fake_runtime(tmp_path / "old", version="0.0.9")
    old = environment | {"TOOLKIT_NATIVE_DIR": str(tmp_path / "old")}
    error = toolkit("deploy", str(bundle), code=1, **old)
    assert "version 0.0.9" in error and f"this toolkit is {__version__}" in error


def test_pull(tmp_path, environment):
    run = tmp_path / "home/runs/run1"
    run.mkdir(parents=True)
    (run / "trace.jsonl").write_text('{"type":"run"}\n')
    (run / "evil\x1b[2J").write_text("evil")
    out = tmp_path / "out/run1"
    pulled = json.loads(toolkit("pull", "run1", "-o", str(out), "--json", **environment))
    assert pulled["files"] == {"trace.jsonl": 15}
    assert pulled["left"] == ["evil\\x1b[2J"]
    assert [path.name for path in out.iterdir()] == ["trace.jsonl"]
    error = toolkit("pull", "run2", "-o", str(out), code=1, **environment)
    assert error == "error: there is no run 'run2' on device local. Runs there: run1\n"
