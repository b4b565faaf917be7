"""`toolkit stop` as a user runs it, on a stand-in for the trainer."""

import json

import pytest

from tests.cli.test_devices import toolkit
from tests.support.fake_trainer import write_fake_bundle, write_fake_runtime
from toolkit import __version__


@pytest.fixture
def environment(tmp_path):
    write_fake_runtime(tmp_path / "native", version=__version__, pause=0.2)
    environment = {
        "TOOLKIT_NATIVE_DIR": str(tmp_path / "native"),
        "TOOLKIT_HOME": str(tmp_path / "home"),
    }
    bundle, data = write_fake_bundle(tmp_path)
    toolkit("deploy", str(bundle), "--data", str(data), **environment)
    return environment


def test_a_run_that_goes_on_by_itself_is_stopped(environment, tmp_path):
    toolkit("train", "--steps", "500", "--out", "run1", "--detach", **environment)
    said = json.loads(toolkit("stop", "run1", "--json", **environment))
    assert said == {"run": "run1", "device": "local", "status": "stopped"}
    trace = (tmp_path / "home/runs/run1/trace.jsonl").read_text().splitlines()
    end = json.loads(trace[-1])
    assert (end["type"], end["status"]) == ("end", "stopped") and end["steps"] < 500
    error = toolkit("stop", "run1", code=1, **environment)
    assert "run 'run1' does not run now" in error
    assert "toolkit train --device local --out run1 --resume" in error


def test_a_run_that_is_not_there(environment):
    assert "run2" in toolkit("stop", "run2", code=1, **environment)
