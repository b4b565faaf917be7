"""`toolkit train` as a process, a stand-in for the trainer: watching, stopping, coming back."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.test_devices import toolkit
from tests.support.fake_trainer import (
    trainer_options,
    write_fake_bundle,
    write_fake_runtime,
    write_whole_bundle,
)
from toolkit import __version__
from toolkit.sealed_json import seal
from toolkit.settings.methods import METHOD_OPTIONS, METHODS
from toolkit.settings.optimizers import OPTIMIZERS, OPTIONS
from toolkit.settings.training import SETTINGS


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
    words = read(tmp_path / "home/runs/run1/trainer.log").splitlines()[-1].split()
    flags = last_flags(tmp_path)
    assert (flags["--steps"], flags["--lr"], flags["--optimizer"]) == ("2", "0.5", "sgd")
    assert flags["--seed"] == "8" and "--resume" in words


@pytest.mark.parametrize(
    "content", [None, "", seal({"steps": [], "x": 1}), seal({"lr": True}), {"lr": 0.25}]
)
def test_resume_never_falls_back_to_defaults(environment, tmp_path, content):
    """A run whose settings are gone or damaged is not continued with others, --steps or not."""
    toolkit("train", "--steps", "2", "--out", "run1", "--lr", "0.5", **environment)
    settings = tmp_path / "home/runs/run1/settings.json"
    settings.unlink()
    if content is not None:
        settings.write_text(json.dumps(content) if content else "")
    state = "damaged" if content else "missing"
    for more in ((), ("--steps", "4")):
        error = toolkit("train", "--out", "run1", "--resume", *more, code=1, **environment)
        assert f"settings.json of run 'run1' on device local is {state}" in error
        assert "toolkit pull --device local run1" in error


def last_flags(tmp_path, run="run1"):
    """Return the flags that the trainer was last started with."""
    lines = read(tmp_path / f"home/runs/{run}/trainer.log").splitlines()
    words = next(line for line in reversed(lines) if line.startswith("--bundle")).split()
    return dict(zip(words[::2], words[1::2], strict=False))


@pytest.mark.parametrize(("optimizer", "default"), [("adamw", "0.999"), ("lion", "0.99")])
def test_a_resume_compares_with_the_optimizers_own_default(environment, optimizer, default):
    words = ("train", "--out", "run1", "--steps")
    toolkit(*words, "2", "--optimizer", optimizer, **environment)
    other = "0.99" if default == "0.999" else "0.999"
    for value, changed in ((default, ""), (other, f", beta2 {default} -> {other}")):
        steps = "3" if not changed else "4"
        more = (steps, "--resume", "--beta2", value)
        process = start(environment, *words[1:], *more)
        _, error = process.communicate(timeout=60)
        assert f"changed: steps {int(steps) - 1} -> {steps}{changed}\n" in error


def test_the_help_names_defaults_that_are_an_optimizers_own(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(toolkit("train", "--help").split())
    assert "[default: 0.999, lion 0.99]" in text and "[default: 0.9]" in text


def test_a_resume_says_what_changes(environment):
    words = ("train", "--out", "run1", "--steps")
    toolkit(*words, "2", "--lr", "0.0005", **environment)
    process = start(environment, *words[1:], "3", "--resume", "--lr", "0.001", "--seed", "4")
    _, error = process.communicate(timeout=60)
    assert "changed: steps 2 -> 3, lr 0.0005 -> 0.001, seed 0 -> 4\n" in error
    process = start(environment, *words[1:], "3", "--resume")
    assert "changed" not in process.communicate(timeout=60)[1]


def test_a_refused_resume_changes_nothing(environment, tmp_path):
    """The trainer refuses lr 1; what the run goes by stays what it was."""
    toolkit("train", "--out", "run1", "--steps", "2", "--lr", "0.5", **environment)
    settings = tmp_path / "home/runs/run1/settings.json"
    before = settings.read_text()
    words = ("train", "--out", "run1", "--resume")
    error = toolkit(*words, "--steps", "8", "--lr", "1", code=1, **environment)
    assert "the bundle is for sequences of 16" in error and "toolkit pull" in error
    assert settings.read_text() == before
    toolkit(*words, **environment)
    assert last_flags(tmp_path)["--lr"] == "0.5" and last_flags(tmp_path)["--steps"] == "2"
    toolkit(*words, "--steps", "4", "--lr", "0.25", **environment)
    toolkit(*words, **environment)
    assert last_flags(tmp_path)["--lr"] == "0.25" and last_flags(tmp_path)["--steps"] == "4"


def test_a_killed_resume_keeps_its_settings(environment, tmp_path):
    """It was accepted: the next resume goes on with what this one changed."""
    toolkit("train", "--out", "run1", "--steps", "1", **environment)
    words = ("train", "--out", "run1", "--resume")
    error = toolkit(*words, "--steps", "5", "--lr", "3", code=1, **environment)
    assert "signal 9" in error
    toolkit(*words, "--lr", "0.5", **environment)
    assert last_flags(tmp_path)["--steps"] == "5"


@pytest.mark.parametrize("what", ["bundle", "data"])
def test_resume_with_other_content_is_refused(environment, tmp_path, what):
    toolkit("train", "--steps", "2", "--out", "run1", **environment)
    bundle, data = write_fake_bundle(tmp_path / "other", content=b"other")
    deploy = ("deploy", str(bundle), "--data", str(data))
    if what == "data":
        deploy = ("deploy", str(tmp_path / "bundle"), "--data", str(data))
    toolkit(*deploy, **environment)
    words = ("train", "--out", "run1", "--resume", "--steps", "3")
    error = toolkit(*words, code=1, **environment)
    assert f"{what} '{what}' on device local is not the one that run 'run1' was started" in error
    toolkit("deploy", str(tmp_path / "bundle"), "--data", str(tmp_path / "data"), **environment)
    toolkit(*words, **environment)


def test_resume_keeps_the_adapter(environment, tmp_path):
    """A run that was killed before its first save would start from the bundle's otherwise."""
    adapter = tmp_path / "mine.ptd"
    adapter.write_bytes(b"an adapter")
    words = ("train", "--out", "run1", "--steps", "5")
    toolkit(*words, "--adapter", str(adapter), "--lr", "3", code=1, **environment)
    pushed = last_flags(tmp_path)["--adapter"]
    assert read(tmp_path / "home/adapters" / pushed.rpartition("/")[2]) == "an adapter"
    adapter.write_bytes(b"another adapter")
    toolkit("train", "--out", "run2", "--steps", "1", "--adapter", str(adapter), **environment)
    assert last_flags(tmp_path, "run2")["--adapter"] != pushed
    toolkit(*words, "--resume", "--lr", "0.5", **environment)
    assert last_flags(tmp_path)["--adapter"] == pushed
    assert read(tmp_path / "home/adapters" / pushed.rpartition("/")[2]) == "an adapter"
    error = toolkit(*words, "--resume", "--adapter", str(adapter), code=1, **environment)
    assert "a run keeps the adapter that it started from" in error
    taken = ("--resume", "--take-adapter", str(adapter), "--take-at", "3", "--until", "4")
    toolkit(*words, *taken, **environment)
    flags = last_flags(tmp_path)
    assert flags["--take-adapter"] == last_flags(tmp_path, "run2")["--adapter"]
    assert (flags["--adapter"], flags["--until"], flags["--take-at"]) == (pushed, "4", "3")
    toolkit(*words, "--resume", "--lr", "0.5", **environment)
    assert not {"--take-adapter", "--take-at", "--until"} & last_flags(tmp_path).keys()
    config = ("--config", str(tmp_path / "home/runs/run1/settings.json"), "--steps", "6")
    toolkit("train", *config, "--out", "run1", "--resume", **environment)
    assert last_flags(tmp_path)["--adapter"] == pushed
    toolkit("train", *config, "--out", "run3", **environment)
    assert last_flags(tmp_path, "run3")["--adapter"] == pushed
    error = toolkit(*words[:-1], "5", "--adapter", str(tmp_path / "none"), code=1, **environment)
    assert "none does not exist. Name a folder that peft saved" in error


def test_attach_deletes_nothing(environment, tmp_path):
    """Not even a run whose trainer refused to begin; the command that began it does."""
    toolkit("train", "--steps", "2", "--out", "run1", "--lr", "1", "--detach", **environment)
    run = tmp_path / "home/runs/run1"
    wait_for(lambda: (run / "exit").exists())
    before = sorted(path.name for path in run.iterdir())
    error = toolkit("train", "--attach", "run1", code=1, **environment)
    assert "the bundle is for sequences of 16" in error and "toolkit pull" in error
    assert sorted(path.name for path in run.iterdir()) == before


def test_figures_are_those_of_the_whole_run(environment, tmp_path):
    """Attached again, or resumed with nothing left to do: peak and time of all parts."""
    toolkit("train", "--steps", "2", "--out", "run1", **environment)
    trace = tmp_path / "home/runs/run1/trace.jsonl"
    trace.write_text(trace.read_text().replace('"step":2,', '"step":2,"x":0,', 1))
    trace.write_text(trace.read_text().replace('"peak":2000', '"peak":9000', 1))
    for words in (("--out", "run1", "--resume"), ("--attach", "run1")):
        process = start(environment, *words)
        _, error = process.communicate(timeout=60)
        assert "run run1 completed: 2 steps, 3 s, peak 9.22 MB" in error


def test_more_sequences_a_step_than_there_are(environment, tmp_path):
    (tmp_path / "few").mkdir()
    bundle, data = write_fake_bundle(tmp_path / "few", sequences=3)
    toolkit("deploy", str(bundle), "--data", str(data), **environment)
    words = ("--steps", "1", "--grad-accum", "4")
    _, error = start(environment, *words, "--out", "run1").communicate(timeout=60)
    assert "warning: a step takes 4 sequences and the data has 3" in error
    _, error = start(environment, *words[:-1], "3", "--out", "run2").communicate(timeout=60)
    assert "warning" not in error


def another_value(known):
    """Return a value that a setting can have, not its default."""
    return known.choices[-1] if known.choices else {int: "7", float: "0.5", str: "0"}[known.type]


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [
        *(("exact", name) for name in OPTIMIZERS),
        *((name, "sgd") for name in list(METHODS)[1:]),
    ],
)
def test_every_option_reaches_the_trainer(environment, tmp_path, method, optimizer):
    """And the trainer has no option that the command lacks, but for those it fills in itself and
    those of a session, which no run begins with."""
    ours = {known.flag: known for known in SETTINGS if known.source == "trainer"}
    filled_in = {"bundle", "data", "out", "resume", "adapter", "eval-data"}
    session = {"until", "take-adapter", "take-at"}
    assert trainer_options().keys() == ours.keys() | filled_in | session
    others = set(OPTIONS) - OPTIMIZERS[optimizer].options.keys()
    others |= set(METHOD_OPTIONS) - METHODS[method].options.keys()
    others |= {"momentum"} if METHODS[method].updates else set()
    values = {flag: another_value(known) for flag, known in ours.items() if flag not in others}
    values |= {"method": method, "optimizer": optimizer, "steps": "1"}
    (tmp_path / "home/data/data/validation.ptd").write_bytes(b"tokens")
    if method == "split":  # trains all layers, evaluates nothing, and takes this computer's part
        for flag in ("eval-every", "keep", "layers", "patience"):
            del values[flag]
        bundle = write_whole_bundle(tmp_path / "whole/bundle")
        toolkit("deploy", str(bundle), "--data", str(tmp_path / "data"), **environment)
        values["computer-bundle"] = str(bundle)
    words = [word for name, value in values.items() for word in (f"--{name}", value)]
    toolkit("train", "--out", "run1", *words, **environment)
    values.pop("computer-bundle", None)
    flags = last_flags(tmp_path)
    assert {name: flags[f"--{name}"] for name in values} == values
    left = {flag for flag in others - {"momentum"} if ours[flag].default is None}
    assert not {f"--{flag}" for flag in left} & flags.keys()


def test_help_shows_the_trainers_defaults():
    """But for held-out data: without its option nothing is evaluated, whatever the trainer does."""
    text = " ".join(toolkit("train", "--help", COLUMNS="100").split())
    shown = dict(part.split(" ", 1) for part in re.split(r" --(?=[a-z0-9-]+ <)", text)[1:])
    defaults = {name: value for name, value in trainer_options().items() if name in shown}
    del defaults["eval-every"], defaults["adapter"]
    told = {
        name
        for name, value in defaults.items()
        if re.search(rf"\[default: {re.escape(str(value))}[],]", shown[name])
    }
    assert told == {name for name, value in defaults.items() if value not in (None, "")}
    assert len(told) > 20


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
        ("--attach", "run1", "--until", "1"),
        ("--out", "run1", "--steps", "5", "--take-adapter", "runs/other"),
        ("--out", "run1", "--steps", "5", "--until", "0"),
        ("--out", "run1", "--steps", "5", "--until", "2", "--app"),
        ("--steps", "0", "--out", "run1"),
        ("--steps", "1", "--out", "run1", "--optimizer", "adam"),
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


def test_a_config_file_sets_what_flags_do_not(environment, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("lr: 5e-1\nsteps: 2\nout: run1\nbeta2: 0.9\n")
    toolkit("train", "--config", str(config), **environment)
    flags = last_flags(tmp_path)
    assert (flags["--lr"], flags["--steps"], flags["--beta2"]) == ("0.5", "2", "0.9")
    toolkit("train", "--config", str(config), "--out", "run2", "--seed", "4", **environment)
    flags = last_flags(tmp_path, "run2")
    assert (flags["--lr"], flags["--seed"]) == ("0.5", "4")
    error = toolkit("train", "--config", str(config), "--optimizer", "x", code=2, **environment)
    assert "'x' is not one of" in error
    config.write_text("learningrate: 1\n")
    error = toolkit("train", "--config", str(config), code=1, **environment)
    assert "Did you mean learning-rate?" in error


def test_the_settings_in_effect_stay_with_the_run_and_repeat_it(environment, tmp_path):
    toolkit("train", "--steps", "2", "--lr", "0.5", "--out", "run1", **environment)
    toolkit("pull", "run1", "-o", str(tmp_path / "run1"), **environment)
    settings = tmp_path / "run1/settings.json"
    content = json.loads(settings.read_text())
    assert (content["lr"], content["beta2"], content["threads"]) == (0.5, 0.999, 0)
    toolkit("train", "--config", str(settings), "--out", "run2", **environment)
    first, second = last_flags(tmp_path), last_flags(tmp_path, "run2")
    assert {**first, "--out": ""} == {**second, "--out": ""}


def test_a_config_is_saved_and_nothing_started(environment, tmp_path):
    config = tmp_path / "run.yaml"
    words = ("--epochs", "2", "--lr", "0.5", "--out", "run1")
    process = start(environment, *words, "--save-config", str(config))
    assert process.communicate(timeout=60)[1] == f"next: toolkit train --config {config}\n"
    assert process.returncode == 0 and not (tmp_path / "home/runs").exists()
    assert "lr: 0.5\n" in config.read_text() and "epochs: 2.0\n" in config.read_text()


def test_epochs_are_counted_from_the_data(environment, tmp_path):
    (tmp_path / "ten").mkdir()
    bundle, data = write_fake_bundle(tmp_path / "ten", sequences=10)
    toolkit("deploy", str(bundle), "--data", str(data), **environment)
    words = ("train", "--epochs", "1.5", "--grad-accum", "4", "--out", "run1")
    toolkit(*words, **environment)
    assert last_flags(tmp_path)["--steps"] == "4" and "--epochs" not in last_flags(tmp_path)
    toolkit("train", "--out", "run1", "--resume", "--epochs", "2", **environment)
    assert last_flags(tmp_path)["--steps"] == "5"
    error = toolkit(*words[:-1], "run2", "--steps", "3", code=1, **environment)
    assert "both --steps and --epochs are given" in error
    error = toolkit("train", "--out", "run3", code=2, **environment)
    assert "--steps or --epochs" in error
