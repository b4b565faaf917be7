"""`toolkit train` as a process, a stand-in for the trainer: watching, stopping, coming back."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.test_devices import toolkit
from tests.support.fake_trainer import write_fake_bundle, write_fake_runtime
from toolkit import __version__


@pytest.fixture
def environment(tmp_path):
    """Deploy the stand-in with a bundle to a device that is this machine."""
    write_fake_runtime(tmp_path / "native", version=__version__, pause=0.1)
    environment = {
        "TOOLKIT_NATIVE_DIR": str(tmp_path / "native"),
        "TOOLKIT_HOME": str(tmp_path / "home"),
    }
    bundle, data = write_fake_bundle(tmp_path)
    toolkit("deploy", str(bundle), "--data", str(data), **environment)
    return environment


def start(environment, *words):
    """Start a command in a process group of its own, as a shell would."""
    return subprocess.Popen(
        [sys.executable, "-m", "toolkit.cli.main", "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def records(output):
    return [json.loads(line) for line in output.splitlines()]


def wait_for(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def test_json_is_json_lines_only(environment):
    output = toolkit("train", "--steps", "3", "--out", "run1", "--json", **environment)
    assert [record["type"] for record in records(output)] == ["run", *["step"] * 3, "end"]


def test_people_see_loss_speed_and_peak(environment):
    process = start(environment, "--steps", "3", "--out", "run1")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "step 3/3  loss 6.2500  200 tokens/s  peak 2.05 MB" in error
    assert "run run1 completed: 3 steps" in error
    assert "next: toolkit pull --device local run1 -o runs/run1" in error


def test_ctrl_c_stops_at_a_step_and_resume_continues(environment, tmp_path):
    process = start(environment, "--steps", "100", "--out", "run1", "--json")
    wait_for(lambda: '"step":2' in read(tmp_path / "home/runs/run1/trace.jsonl"))
    os.killpg(process.pid, signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    stopped = records(output)[-1]
    assert stopped["type"] == "end" and stopped["status"] == "stopped"
    assert 2 <= stopped["steps"] < 100
    assert "resume: toolkit train --device local --out run1 --resume" in error
    steps = str(stopped["steps"] + 2)
    output = toolkit(
        "train", "--steps", steps, "--out", "run1", "--resume", "--json", **environment
    )
    seen = [record["step"] for record in records(output) if record["type"] == "step"]
    assert seen == [stopped["steps"] + 1, stopped["steps"] + 2]


def test_resume_remembers_the_settings(environment, tmp_path):
    settings = ("--lr", "0.5", "--seed", "7", "--optimizer", "sgd")
    toolkit("train", "--steps", "2", "--out", "run1", *settings, **environment)
    toolkit("train", "--out", "run1", "--resume", "--seed", "8", **environment)
    log = read(tmp_path / "home/runs/run1/trainer.log").splitlines()
    words = log[-1].split()
    flags = dict(zip(words[::2], words[1::2], strict=False))
    assert (flags["--steps"], flags["--lr"], flags["--optimizer"]) == ("2", "0.5", "sgd")
    assert flags["--seed"] == "8" and "--resume" in words
    (tmp_path / "home/runs/run1/settings.json").write_text('{"steps": [], "x": 1, "lr": true}')
    error = toolkit("train", "--out", "run1", "--resume", code=1, **environment)
    assert "how long run 'run1' should be is not known. Give --steps" in error


def test_second_ctrl_c_detaches_and_attach_comes_back(environment, tmp_path):
    write_fake_runtime(tmp_path / "slow", version=__version__, pause=8)
    slow = environment | {"TOOLKIT_NATIVE_DIR": str(tmp_path / "slow")}
    toolkit("deploy", str(tmp_path / "bundle"), **slow)
    run = tmp_path / "home/runs/run1"
    process = start(environment, "--steps", "2", "--out", "run1")
    wait_for(lambda: '"type":"run"' in read(run / "trace.jsonl"))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    wait_for(lambda: (run / "stop").exists())
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "goes on: toolkit train --device local --attach run1" in error
    output = toolkit("train", "--attach", "run1", "--json", **environment)
    assert records(output)[0]["type"] == "run" and records(output)[-1]["status"] == "stopped"


def test_detach_leaves_a_run_to_itself(environment, tmp_path):
    output = toolkit("train", "--steps", "50", "--out", "run1", "--detach", "--json", **environment)
    assert json.loads(output)["run"] == "run1"
    error = toolkit("train", "--steps", "1", "--out", "run1", "--resume", code=1, **environment)
    assert "run 'run1' is still going" in error
    wait_for(lambda: '"type":"end"' in read(tmp_path / "home/runs/run1/trace.jsonl"))


def test_a_dead_trainer_is_explained(environment, tmp_path):
    words = ("train", "--steps", "5", "--out", "run1")
    error = toolkit(*words, "--lr", "3", code=1, **environment)
    assert "the system killed the trainer (signal 9)" in error
    assert (tmp_path / "home/runs/run1/trace.jsonl").is_file()
    error = toolkit(*words, "--lr", "2", "--resume", code=1, **environment)
    assert "failed on local: storage is full. Free some space" in error.splitlines()[-1]


def test_a_refused_start_leaves_the_name_free(environment, tmp_path):
    words = ("train", "--steps", "2", "--out", "run1", "--json")
    error = toolkit(*words, "--lr", "1", code=1, **environment)
    assert "the bundle is for sequences of 16" in error and "can be used again" in error
    assert records(toolkit(*words, **environment))[-1]["status"] == "completed"


@pytest.mark.parametrize(
    "words",
    [
        ("--steps", "5"),
        ("--out", "run1"),
        ("--attach", "run1", "--out", "run2"),
        ("--attach", "run1", "--lr", "1"),
        ("--steps", "0", "--out", "run1"),
        ("--steps", "1", "--out", "run1", "--optimizer", "lion"),
        ("--steps", "many", "--out", "run1"),
    ],
)
def test_wrong_usage(words):
    toolkit("train", *words, code=2)


def test_unknown_bundles_and_names(environment):
    words = ("train", "--steps", "1", "--out")
    error = toolkit(*words, "run1", "--bundle", "other", code=1, **environment)
    assert "no bundle 'other' is complete on device local (there: bundle)" in error
    error = toolkit(*words, "../run1", code=1, **environment)
    assert "cannot name a run" in error
    error = toolkit(*words, "run1", "--resume", code=1, **environment)
    assert "no run 'run1' on device local to resume" in error
    error = toolkit(*words, "run1", "--eval-every", "1", code=1, **environment)
    assert "--eval-every needs held-out data" in error


def read(path):
    return path.read_text() if path.exists() else ""
