"""`toolkit finetune` of a tiny model with the real trainer: whole, again, changed, cut off."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import toolkit
from tests.support.workplace import make_workplace, write_chats
from tests.tracking.reading import read_csv, read_tensorboard
from toolkit.cli.main import app

STEPS = ("export", "data", "deploy", "train", "pull", "analyze")
WORDS = ("finetune", "model", "chats.jsonl", "--seq-len", "64", "--lr", "5e-4")


def run(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == code, (words, result.output)
    return result


def finetune(*words):
    """Fine-tune and return what is there, and which steps were taken."""
    found = json.loads(run(*WORDS, *words, "--json").stdout)
    commands = [step["command"].split()[1] for step in found["steps"]]
    assert tuple(commands) == STEPS
    return found, {
        c for c, step in zip(commands, found["steps"], strict=True) if not step["skipped"]
    }


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder in which the tiny model was fine-tuned for three steps, and what was said."""
    folder = tmp_path_factory.mktemp("finetune")
    make_workplace(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TOOLKIT_HOME", str(folder / "home"))
        found, taken = finetune("--steps", 3)
    assert taken == set(STEPS)
    return folder, found


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """Work in a copy of that folder."""
    folder = tmp_path / "work"
    shutil.copytree(made[0], folder, symlinks=True)  # times of files stay
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TOOLKIT_HOME", str(folder / "home"))
    return folder


def test_it_brings_an_adapter_and_a_report(made):
    folder, found = made
    result = folder / found["path"]
    assert (found["path"], found["adapter"]) == ("runs/model/run", "runs/model/run")
    assert (result / "report.html").stat().st_size > 10_000
    assert toolkit.analyze(result).status == "completed"
    settings = toolkit.Result(result, {}, []).settings
    assert (settings.steps, settings.learning_rate) == (3, 5e-4)


def test_the_same_again_does_nothing(here):
    before = contents(here)
    found, taken = finetune("--steps", 3)
    assert taken == set() and contents(here) == before
    assert {step["reason"] for step in found["steps"]} == {"nothing has changed"}
    said = run(*WORDS, "--steps", 3)
    assert said.stderr.count("skipped: nothing has changed") == len(STEPS)
    assert "next: toolkit evaluate runs/model/bundle --data runs/model/data" in said.stderr
    assert "Adapter: runs/model/run" in said.stdout and contents(here) == before


def test_the_commands_that_it_stands_for_do_the_same(made, tmp_path, monkeypatch):
    folder, found = made
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    for name in ("model", "chats.jsonl"):
        (tmp_path / name).symlink_to(folder / name)
    for step in found["steps"]:
        run(*shlex.split(step["command"])[1:])
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        ours = tmp_path / found["path"] / name
        assert ours.read_bytes() == (folder / found["path"] / name).read_bytes()


def test_other_data_makes_a_new_run_and_the_first_stays(here):
    first = contents(here / "runs/model/run")
    write_chats(here / "chats.jsonl", 20)
    found, taken = finetune("--steps", 3)
    assert taken == {"data", "deploy", "train", "pull", "analyze"}
    assert found["path"] == "runs/model/run-2" and contents(here / "runs/model/run") == first
    reasons = {step["command"].split()[1]: step["reason"] for step in found["steps"]}
    assert reasons["data"] == "changed: files"
    write_chats(here / "chats.jsonl")
    found, taken = finetune("--steps", 3)
    assert taken == {"data"} and found["path"] == "runs/model/run"


def test_other_settings_make_a_new_run_of_the_same_data(here):
    found, taken = finetune("--steps", 4)
    assert taken == {"train", "pull", "analyze"} and found["path"] == "runs/model/run-2"


def test_weights_that_only_look_changed_are_exported_and_not_trained_again(made, monkeypatch):
    """In the first folder, where a bundle's manifest names the model."""
    folder, _ = made
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TOOLKIT_HOME", str(folder / "home"))
    os.utime(folder / "model/model.safetensors")
    found, taken = finetune("--steps", 3)
    assert taken == {"export"} and found["steps"][0]["reason"] == "changed: model"


def test_what_is_gone_here_is_brought_again(here):
    shutil.rmtree(here / "runs/model/run")
    _, taken = finetune("--steps", 3)
    assert taken == {"pull", "analyze"}
    (here / "runs/model/run/adapter_model.safetensors").write_bytes(b"damaged")
    _, taken = finetune("--steps", 3)
    assert taken >= {"pull"} and not taken & {"export", "data", "deploy", "train"}


def test_trackers_get_the_run_that_is_there_and_each_later_one_its_own(here):
    """The CSV file beside the first, TensorBoard's folder of the run."""
    tracked = ("--csv", "steps.csv", "--tensorboard", "board")
    found, taken = finetune("--steps", 3, *tracked)
    assert taken == set() and list(read_csv(here / "steps.csv")) == [1, 2, 3]
    first = contents(here)
    assert finetune("--steps", 3, *tracked)[1] == set() and contents(here) == first
    found, _ = finetune("--steps", 4, *tracked)
    assert "--csv steps-2.csv" in found["steps"][3]["command"]
    assert list(read_csv(here / "steps-2.csv")) == [1, 2, 3, 4]
    assert list(read_csv(here / "steps.csv")) == [1, 2, 3]
    assert len(read_tensorboard(here / "board/model")) == 3
    assert len(read_tensorboard(here / "board/model-2")) == 4
    trace = here / "runs/model/run-2/trace.jsonl"
    losses = [r["loss"] for r in map(json.loads, trace.open()) if r["type"] == "step"]
    assert [row["loss"] for row in read_csv(here / "steps-2.csv").values()] == losses


def test_a_bundle_is_not_exported(here):
    words = ("finetune", "runs/model/bundle", "chats.jsonl", "-o", "other", "--steps", 1, "--json")
    found = json.loads(run(*words).stdout)
    assert [step["command"].split()[1] for step in found["steps"]] == list(STEPS[1:])
    refused = run(*words, "--rank", 4, code=1).stderr
    assert "runs/model/bundle is a bundle, which has its rank and targets already" in refused


def test_what_is_wrong_is_said_before_anything_is_made(here):
    error = run("finetune", "model", "./chatz.jsonl", "-o", "new", code=1).stderr
    assert "cannot read ./chatz.jsonl: No such file or directory" in error
    (here / "run.yaml").write_text("out: mine\nsteps: 3\n")
    error = run(*WORDS, "--config", "run.yaml", code=2).stderr
    assert "which the work folder decides" in " ".join(error.replace("│", " ").split())
    assert not (here / "new/bundle").exists()


def test_a_run_of_other_settings_that_goes_on_is_not_disturbed(here):
    with toolkit.open_device() as device:
        going = device.train("model-2", toolkit.TrainSettings(steps=10**6, trace="steps"))
        error = run(*WORDS, "--steps", 5, code=1).stderr
        assert "run model-2 on device local goes on with other settings or data" in error
        going.stop()
        going.wait()
    found, _ = finetune("--steps", 5)
    assert found["path"] == "runs/model/run-3"


def test_ctrl_c_stops_it_and_the_same_command_goes_on(here):
    """With every step once in the file that follows it."""
    words = [*WORDS, "--steps", "2000", "--csv", "steps.csv", "--trace", "steps"]
    command = [sys.executable, "-m", "toolkit.cli.main", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    said = []
    while not any("step 1/2000" in line for line in said):
        said.append(process.stderr.readline())
        assert said[-1], said  # it ended
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "run model-2 was stopped. The same command goes on with it" in error
    assert 0 < max(read_csv(here / "steps-2.csv")) < 2000
    again = run(*words)
    assert "$ toolkit train --device local --out model-2 --resume --csv steps-2.csv" in again.stderr
    assert "run model-2 completed: 2000 steps" in again.stderr
    assert list(read_csv(here / "steps-2.csv")) == list(range(1, 2001))
    assert toolkit.analyze("runs/model/run-2").status == "completed"
