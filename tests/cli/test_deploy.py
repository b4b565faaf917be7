"""`toolkit deploy` and `toolkit pull` on this machine as a device."""

import json
import os
import subprocess
import sys

import pytest

from tests.cli.test_devices import toolkit
from tests.support.fake_trainer import write_digests, write_fake_bundle, write_fake_runtime
from toolkit import __version__
from toolkit.data.fingerprint import DATA_FORMAT_VERSION
from toolkit.sealed_json import seal


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
        "sent": 256_000 + (bundle / "manifest.json").stat().st_size,
        "unchanged": 0,
        "resumed": 0,
        "files": 2,
    }
    (data / "train.ptd").write_bytes(b"TOKENS")
    write_digests(data / "data.json", {"version": DATA_FORMAT_VERSION})
    again = json.loads(toolkit(*words, **environment))
    assert again["transfers"]["bundle"]["files"] == 0
    assert again["transfers"]["data"]["files"] == 2
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


@pytest.mark.parametrize("name", ["bundle/base.ptd", "data/train.ptd"])
def test_deploy_refuses_what_is_damaged(tmp_path, environment, name):
    """One bit, anywhere; nothing reaches the device."""
    bundle, data = write_fake_bundle(tmp_path)
    words = ("deploy", str(bundle), "--data", str(data))
    file = tmp_path / name
    good = file.read_bytes()
    for place in (0, len(good) // 2, len(good) - 1):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        error = toolkit(*words, code=1, **environment)
        assert f"{file.name} does not match its SHA-256" in error
        assert "Copy it again or make it anew" in error
    file.write_bytes(good[:-1])
    assert "does not match" in toolkit(*words, code=1, **environment)
    file.unlink()
    assert f"{file.name} is missing" in toolkit(*words, code=1, **environment)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "manifest.json cannot be read"),
        ("[]", "manifest.json is no object"),
        ('{"files": {}}', "manifest.json has no checksum"),
        (json.dumps(seal({"a": 1}) | {"a": 2}), "manifest.json does not match its checksum"),
        (json.dumps(seal({})), "lists no files"),
        (json.dumps(seal({"files": {"../x": {"sha256": ""}}})), "names a file outside"),
        (json.dumps(seal({"files": {"x": 5}})), "lists no files"),
    ],
)
def test_deploy_refuses_damaged_manifests(tmp_path, environment, text, message):
    bundle, _ = write_fake_bundle(tmp_path)
    (bundle / "manifest.json").write_text(text)
    assert message in toolkit("deploy", str(bundle), code=1, **environment)


def test_what_the_manifest_does_not_list_is_not_sent(tmp_path, environment):
    bundle, _ = write_fake_bundle(tmp_path)
    (bundle / "report.html").write_text("mine")
    toolkit("deploy", str(bundle), **environment)
    names = {path.name for path in (tmp_path / "home/bundles/bundle").iterdir()}
    assert names == {"base.ptd", "manifest.json", ".deployed.json"}


def test_data_of_another_tokenizer_is_refused(tmp_path, environment):
    """At deploy, and at train if they came to the device apart."""
    bundle, data = write_fake_bundle(tmp_path)
    for manifest, name in ((bundle / "manifest.json", "smol"), (data / "data.json", "qwen")):
        manifest.unlink()
        described = {"name": name, "sha256": name * 9}
        write_digests(manifest, {"version": DATA_FORMAT_VERSION, "tokenizer": described})
    error = toolkit("deploy", str(bundle), "--data", str(data), code=1, **environment)
    said = "was made with the tokenizer of qwen"
    assert f"{data} {said}, {bundle} has the tokenizer of smol" in error
    toolkit("deploy", str(bundle), **environment)
    (tmp_path / "other").mkdir()
    other, _ = write_fake_bundle(tmp_path / "other/x")
    toolkit("deploy", str(other), "--data", str(data), "--name", "other", **environment)
    words = ("train", "--steps", "1", "--out", "run1", "--bundle", "bundle")
    error = toolkit(*words, code=1, **environment)
    assert f"data 'other' {said}, bundle 'bundle' has the tokenizer of smol" in error
    assert not (tmp_path / "home/runs").exists()


def test_deploy_names_the_next_command(tmp_path, environment):
    bundle, data = write_fake_bundle(tmp_path)
    words = [sys.executable, "-m", "toolkit.cli.main", "deploy", str(bundle)]
    for more, line in (
        ((), f"next: toolkit deploy {bundle} --data DATA --device local"),
        (("--data", str(data)), "next: toolkit train --device local --steps 50 --out run1"),
    ):
        result = subprocess.run(
            [*words, *more], env={**os.environ, **environment}, capture_output=True, text=True
        )
        assert result.stderr.splitlines()[-1] == line


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
    error = toolkit("pull", "run1", "-o", "/proc/nope/run1", code=1, **environment)
    assert error == "error: /proc/nope: no such file or directory. Check the path\n"
    error = toolkit("pull", "run2", "-o", str(out), code=1, **environment)
    assert error == "error: there is no run 'run2' on device local. Runs there: run1\n"
