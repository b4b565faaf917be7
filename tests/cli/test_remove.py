"""`toolkit list` and `toolkit remove` on this machine as a device."""

import json
import os
import time

import pytest

from tests.cli.test_devices import toolkit
from tests.support.fake_trainer import write_fake_bundle, write_fake_runtime
from tests.support.processes import wait_for
from toolkit import __version__


@pytest.fixture
def environment(tmp_path):
    """A device with a bundle, data, a run from an adapter, and things that nothing needs."""
    write_fake_runtime(tmp_path / "older", version=__version__, pause=0.3)
    write_fake_runtime(tmp_path / "native", version=__version__)
    environment = {
        "TOOLKIT_NATIVE_DIR": str(tmp_path / "older"),
        "TOOLKIT_HOME": str(tmp_path / "home"),
    }
    bundle, data = write_fake_bundle(tmp_path)
    toolkit("deploy", str(bundle), **environment)
    environment["TOOLKIT_NATIVE_DIR"] = str(tmp_path / "native")
    toolkit("deploy", str(bundle), "--data", str(data), **environment)
    (tmp_path / "start.ptd").write_bytes(b"x" * 5000)
    words = ("--steps", "1", "--out", "run1", "--adapter", str(tmp_path / "start.ptd"))
    toolkit("train", *words, **environment)
    return environment


def listed(environment):
    found = json.loads(toolkit("list", "--json", **environment))
    return {item["name"]: item for item in found["items"]}


def age(path, hours):
    when = time.time() - 3600 * hours
    for name in [*path.rglob("*"), path]:
        os.utime(name, (when, when))


def test_list(environment, tmp_path):
    home = tmp_path / "home"
    items = listed(environment)
    kinds = [name.partition("/")[0] for name in items]
    assert kinds == ["bundles", "data", "runs", "adapters", "runtime", "runtime"]
    size = sum(path.stat().st_size for path in (home / "bundles/bundle").iterdir())
    assert items["bundles/bundle"]["bytes"] == size
    assert items["bundles/bundle"]["used_by"] == items["data/data"]["used_by"] == ["run1"]
    [adapter] = [item for name, item in items.items() if name.startswith("adapters/")]
    assert adapter["bytes"] == 5000 and adapter["used_by"] == ["run1"] and not adapter["old"]
    old = [item["old"] for name, item in items.items() if name.startswith("runtime/")]
    assert sorted(old) == ["", "a newer one is there"]
    (home / "scratch/1234").mkdir(parents=True)
    (home / "scratch/1234/data.ptd").write_bytes(b"123")
    (home / "bundles/half").mkdir()
    (home / "bundles/half/.base.ptd.0123.part").write_bytes(b"1234")
    items = listed(environment)
    assert not items["scratch/1234"]["old"] and not items["bundles/half"]["old"], "too young"
    age(home / "scratch/1234", 2)
    age(home / "bundles/half", 50)
    items = listed(environment)
    assert items["scratch/1234"]["old"] == "left by a command that ended"
    assert items["bundles/half"]["old"] == "not sent completely"
    text = toolkit("list", **environment)
    assert "old: not sent completely" in text and "2 days" in text and "used by run1" in text
    assert f"in {home}" in text and " free" in text


def test_remove_old(environment, tmp_path):
    home = tmp_path / "home"
    (home / "scratch/1234").mkdir(parents=True)
    age(home / "scratch/1234", 2)
    toolkit("remove", "run1", **environment)
    age(home / "adapters", 2)
    found = json.loads(toolkit("remove", "--old", "--json", **environment))
    kinds = sorted(name.partition("/")[0] for name in found["removed"])
    assert kinds == ["adapters", "runtime", "scratch"] and found["freed_bytes"] > 5000
    assert set(listed(environment)) >= {"bundles/bundle", "data/data"}
    assert len(list((home / "runtime").iterdir())) == 1
    toolkit("train", "--steps", "1", "--out", "run2", **environment)


def test_a_running_run_and_what_it_uses_stay(environment, tmp_path):
    home = tmp_path / "home"
    toolkit("train", "--steps", "500", "--out", "run2", "--detach", **environment)
    items = listed(environment)
    assert items["runs/run2"]["busy"] == "it is running"
    runtimes = [item for name, item in items.items() if name.startswith("runtime/")]
    assert sorted(item["busy"] for item in runtimes) == ["", "a trainer uses it"]
    for name in ("run2", "bundles/bundle", "data"):
        error = toolkit("remove", "run1", name, code=1, **environment)
        assert "cannot be removed" in error and "Stop the run first" in error
    assert (home / "runs/run1").exists(), "all or nothing"
    assert json.loads(toolkit("remove", "--all", "runs", "--json", **environment))["removed"] == [
        "runs/run1"
    ]
    (home / "runs/run2/stop").touch()
    wait_for(lambda: not listed(environment)["runs/run2"]["busy"])
    toolkit("remove", "run2", **environment)
    assert list((home / "runs").iterdir()) == []


def test_names(environment, tmp_path):
    toolkit("deploy", str(tmp_path / "bundle"), "--name", "run1", **environment)
    error = toolkit("remove", "run1", code=1, **environment)
    assert "'run1' is bundles/run1 and runs/run1. Say which" in error
    error = toolkit("remove", "../x", code=1, **environment)
    assert "there is no '../x' on the device. `toolkit list` shows" in error
    toolkit("remove", "bundles/run1", "bundle", **environment)
    assert [name for name in listed(environment) if name.startswith("bundles/")] == []
    error = toolkit("train", "--out", "run1", "--resume", "--steps", "2", code=1, **environment)
    assert "no bundle 'bundle' is complete" in error
    toolkit("remove", code=2, **environment)
    toolkit("remove", "--all", "everything", code=2, **environment)
    assert json.loads(toolkit("remove", "--all", "scratch", "--json", **environment)) == {
        "device": "local",
        "removed": [],
        "freed_bytes": 0,
    }
