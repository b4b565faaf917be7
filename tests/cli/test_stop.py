"""`toolkit stop` as a user runs it, on a stand-in for the trainer."""

import json

from tests.cli.conftest import deployed_stand_in
from tests.cli.test_devices import toolkit


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


def test_a_run_that_comes_to_its_end_meanwhile_was_not_stopped(tmp_path):
    environment = deployed_stand_in(tmp_path, pause=3)
    toolkit("train", "--steps", "1", "--out", "run1", "--detach", **environment)
    said = json.loads(toolkit("stop", "run1", "--json", **environment))
    assert said == {"run": "run1", "device": "local", "status": "completed"}


def test_a_run_that_is_not_there(environment):
    assert "run2" in toolkit("stop", "run2", code=1, **environment)
