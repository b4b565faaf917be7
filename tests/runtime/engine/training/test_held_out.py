"""What held-out loss decides: when a run ends, which adapter is kept; and checkpoints by number."""

import os
import subprocess
from dataclasses import fields

import numpy as np
import pytest

from tests.runtime.engine.training.test_full_storage import (
    FULL,
    Disk,
    can_mount,
    events,
    wait_for_event,
)
from tests.runtime.engine.training.test_resume import start, wait_for_step
from tests.runtime.running import error_of, flags, probe, records, trainer
from toolkit.data.dataset import read_rows, write_rows
from toolkit.data.samples import Rows
from toolkit.safetensors_checksum import is_intact

ADAPTER = "adapter_model.safetensors"
LEARNS = {"lr": 0.02, "steps": 24, "eval_every": 2}
"""Learns its four rows by heart: held-out loss falls at first, then rises."""


def files(out):
    """Everything that a run leaves but its trace."""
    found = (path for path in out.rglob("*") if path.is_file() and path.name != "trace.jsonl")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


def kept(out, folder):
    return sorted(int(path.name.removeprefix("step-")) for path in (out / folder).iterdir())


def held_out(case, **options):
    return {**LEARNS, "eval_data": case.other_length, **options}


def adapter_after(case, folder, steps):
    """Return the adapter of a run of so many steps; the learning rate is constant."""
    out = case.train(folder / f"until{steps}", lr=LEARNS["lr"], steps=steps)
    return (out / ADAPTER).read_bytes()


@pytest.fixture(scope="module")
def curve(make_case, tmp_path_factory):
    """Held-out losses by step of a run that looks and goes by none of them."""
    case = make_case()
    out = case.train(tmp_path_factory.mktemp("curve") / "run", **held_out(case))
    losses = {record["step"]: record["loss"] for record in records(out, "evaluation")}
    best = min(losses, key=losses.get)
    assert 0 < best < 12, losses
    return losses


def test_a_run_ends_when_patience_runs_out(case, curve, tmp_path):
    best = min(curve, key=curve.get)
    out = case.train(tmp_path / "run", **held_out(case, patience=3))
    [end] = records(out, "end")
    assert (end["status"], end["steps"]) == ("completed", best + 6)
    assert end["reason"] == (
        f"the held-out loss was not below {curve[best]:.6g}, that of step {best}, in 3 evaluations"
    )
    assert {r["step"]: r["loss"] for r in records(out, "evaluation")} == {
        step: loss for step, loss in curve.items() if step <= best + 6
    }
    assert (out / ADAPTER).read_bytes() == adapter_after(case, tmp_path, best + 6)
    # It is over, and stays as it is, unless it gets more patience.
    before = files(out), (out / "trace.jsonl").read_bytes()
    case.train(out, resume=True, **held_out(case, patience=3))
    assert (files(out), (out / "trace.jsonl").read_bytes()) == before
    case.train(out, resume=True, **held_out(case, patience=4))
    assert [end["steps"] for end in records(out, "end")] == [best + 6, best + 8]
    case.train(out, resume=True, **held_out(case))
    last = records(out, "end")[-1]
    assert last["steps"] == LEARNS["steps"] and "reason" not in last
    assert (out / ADAPTER).read_bytes() == adapter_after(case, tmp_path, LEARNS["steps"])


def test_a_loss_that_stays_is_no_improvement(case, tmp_path):
    out = case.train(tmp_path / "run", **held_out(case, lr=0, patience=1, keep="best"))
    [end] = records(out, "end")
    assert (end["status"], end["steps"]) == ("completed", 2)
    assert end["reason"].endswith("that of step 0, in 1 evaluation")
    assert kept(out, "best") == [0]


def test_the_adapter_of_the_lowest_loss_is_kept(case, curve, tmp_path):
    best = min(curve, key=curve.get)
    out = case.train(tmp_path / "run", **held_out(case, keep="best"))
    assert kept(out, "best") == [best]
    assert (out / f"best/step-{best}" / ADAPTER).read_bytes() == adapter_after(case, tmp_path, best)
    assert (out / ADAPTER).read_bytes() == adapter_after(case, tmp_path, LEARNS["steps"])
    told = [event for event in records(out, "event") if event["event"] == "best"]
    lower = [step for step in curve if all(curve[step] < curve[s] for s in curve if s < step)]
    assert [event["step"] for event in told] == lower
    assert [r["step"] for r in records(out, "evaluation") if r["best"]] == lower
    assert told[-1]["detail"] == f"step {best}, held-out loss {curve[best]:.6g}"
    # Not wanted any more, it goes.
    case.train(out, resume=True, **held_out(case, steps=25))
    assert not (out / "best").exists()


def test_without_these_options_nothing_changes(case, tmp_path):
    """The same bytes, state included, as without held-out data."""
    plain = case.train(tmp_path / "plain", lr=LEARNS["lr"], steps=6)
    looked = case.train(tmp_path / "looked", **held_out(case, steps=6, patience=0, keep="last"))
    assert files(looked) == files(plain)
    assert b"held_out" not in (plain / "state.bin").read_bytes()


def test_a_stopped_run_remembers_what_it_saw(case, tmp_path):
    settings = held_out(case, lr=0.002, steps=300, keep="best", patience=10**6, keep_checkpoints=2)
    whole = case.train(tmp_path / "whole", save_every=50, **settings)
    out = tmp_path / "run"
    process = start(case, out, save_every=50, **settings)
    wait_for_step(out, 5)
    (out / "stop").touch()
    assert process.wait(60) == 0, process.stderr.read()
    stopped = records(out, "end")[0]["steps"]
    assert kept(out, "checkpoints")[-1] == stopped
    case.train(out, resume=True, save_every=50, **settings)
    assert files(out) == files(whole)
    best = [event["step"] for event in records(out, "event") if event["event"] == "best"]
    assert best[-1] == kept(out, "best")[0]


def test_an_evaluation_that_was_cut_off_is_made_up_for(case, tmp_path):
    """A stop is heard within an evaluation; what it left out comes first when the run goes on."""
    rows = read_rows(case.other_length)
    many = Rows(*(np.concatenate([getattr(rows, f.name)] * 250) for f in fields(rows)))
    write_rows(tmp_path / "many.ptd", many)
    settings = {**LEARNS, "eval_data": tmp_path / "many.ptd", "eval_every": 1, "keep": "best"}
    settings |= {"lr": 0.002, "steps": 4, "save_every": 0}
    whole = files(case.train(tmp_path / "whole", **settings))
    for attempt in range(5):
        out = tmp_path / f"run{attempt}"
        process = start(case, out, **settings)
        wait_for_step(out, 2)
        (out / "stop").touch()
        assert process.wait(60) == 0, process.stderr.read()
        stopped = records(out, "end")[0]["steps"]
        missing = records(out, "evaluation")[-1]["step"] < stopped
        case.train(out, resume=True, **settings)
        assert files(out) == whole
        steps = {record["step"] for record in records(out, "evaluation")}
        assert steps == set(range(5))
        if missing:
            return
    raise AssertionError("no evaluation was cut off")


def test_a_best_that_was_not_kept_is_looked_for_again(case, curve, tmp_path):
    out = case.train(tmp_path / "run", **held_out(case, patience=50))
    case.train(out, resume=True, **held_out(case, steps=26, keep="best"))
    best = min(curve, key=curve.get)
    [event] = [event for event in records(out, "event") if event["event"] == "best_unknown"]
    assert f"the adapter of step {best} was not kept" in event["detail"]
    resumed = [r["step"] for r in records(out, "evaluation")][len(curve) :]
    assert resumed == [24, 26]
    losses = {r["step"]: r["loss"] for r in records(out, "evaluation")}
    assert kept(out, "best") == [min(resumed, key=losses.get)]


def test_losses_on_other_held_out_data_do_not_count(case, curve, tmp_path):
    out = case.train(tmp_path / "run", **held_out(case, keep="best", patience=50))
    assert kept(out, "best") == [min(curve, key=curve.get)]
    case.train(out, resume=True, **held_out(case, steps=26, keep="best", max_samples=1))
    [event] = [event for event in records(out, "event") if event["event"] == "best_unknown"]
    assert "the held-out data is another" in event["detail"]
    again = {r["step"]: r["loss"] for r in records(out, "evaluation")[len(curve) :]}
    assert list(again) == [24, 26] and again[24] != curve[24]
    assert kept(out, "best") == [min(again, key=again.get)]


def test_what_is_after_the_saved_step_is_of_another_future(case, tmp_path):
    settings = held_out(case, steps=8, save_every=2, keep="best", keep_checkpoints=3)
    out = case.train(tmp_path / "run", **settings)
    assert kept(out, "checkpoints") == [4, 6, 8]
    for step in (4, 6, 8):
        adapter = (out / f"checkpoints/step-{step}" / ADAPTER).read_bytes()
        assert adapter == adapter_after(case, tmp_path, step)
    for folder in ("best", "checkpoints"):
        (out / folder / "step-99").mkdir()
        (out / folder / "step-99" / ADAPTER).write_bytes(b"of before")
        (out / folder / "step-100").mkdir()
        (out / folder / "step-100" / f"{ADAPTER}.tmp").write_bytes(b"half of on")
    (out / "checkpoints/notes").mkdir()
    case.train(out, resume=True, **{**settings, "steps": 10, "keep_checkpoints": 2})
    assert not (out / "best/step-99").exists() and not (out / "best/step-100").exists()
    (out / "checkpoints/notes").rmdir()
    assert kept(out, "checkpoints") == [8, 10]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"patience": 2}, "--patience counts evaluations on the way: give --eval-every N and"),
        ({"patience": 2, "eval_every": 4}, "--patience counts evaluations on the way"),
        ({"keep": "best"}, "--keep best goes by held-out loss: give --eval-data"),
        ({"keep": "worst"}, "--keep worst: expected last|best"),
        ({"keep_checkpoints": 1001}, "--keep-checkpoints 1001: expected 0 to 1000"),
    ],
)
def test_what_cannot_be_is_refused(case, tmp_path, options, what):
    assert what in error_of("train", code=2, **case.options(tmp_path / "run", **options))


def test_saves_leave_room_for_what_is_kept():
    """Best adapters of 10 MB, a minute apart, beside saves of 40 MB: a gigabyte an hour in all."""
    size, beside, seconds, count = 40_000_000, 1_000_000, 6, 2400
    lines = probe("saves", 50, "default", 2, size, seconds, count, beside).decode().split()
    steps = [int(line) for line in lines if line != "stretched"]
    written = len(steps) * size + steps[-1] * beside
    hours = count * seconds / 3600
    assert written <= hours * 1e9
    alone = probe("saves", 50, "default", 2, size, seconds, count).decode().split()
    assert len(steps) < len(alone)


def test_kept_checkpoints_put_saves_apart(case, tmp_path):
    out = case.train(
        tmp_path / "run", steps=300, save_minutes=1e-6, keep_checkpoints=1, trace="steps"
    )
    sizes = {name: len(content) for name, content in files(out).items()}
    size = sizes["state.bin"] + 2 * sizes[ADAPTER]
    saves = [e for e in records(out, "event") if e["event"] == "saved"]
    assert (len(saves) - 1) * size <= records(out, "end")[0]["seconds"] * 1e9 / 3600 + size
    if saves[-1]["written_bytes"]:
        assert size <= saves[-1]["written_bytes"] <= size + 64 * 1024


LETHAL = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int counted(int result) {
  static int calls = 0;
  if (result == 0 && ++calls == atoi(getenv("KILL_AT"))) {
    kill(getpid(), SIGKILL);
    pause();
  }
  return result;
}
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
int fsync(int fd) { return counted(NEXT(fsync)(fd)); }
int mkdirat(int at, const char* path, mode_t mode) {
  return counted(NEXT(mkdirat)(at, path, mode));
}
int unlinkat(int at, const char* path, int flags) {
  return counted(NEXT(unlinkat)(at, path, flags));
}
int renameat(int a, const char* from, int b, const char* to) {
  return counted(NEXT(renameat)(a, from, b, to));
}
"""


@pytest.mark.slow
def test_killed_at_any_moment_of_writing_nothing_is_lost(case, tmp_path):
    """After each call that made, synced, renamed or removed something: a run for each of them."""

    (tmp_path / "lethal.c").write_text(LETHAL)
    library = tmp_path / "lethal.so"
    command = ["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "lethal.c", "-ldl"]
    subprocess.run(command, check=True)
    settings = held_out(
        case, steps=4, lr=0.002, eval_every=1, max_samples=1, save_every=2, keep="best",
        keep_checkpoints=1, trace="steps", patience=9,
    )  # fmt: skip
    whole = files(case.train(tmp_path / "whole", **settings))
    assert {"best", "checkpoints"} <= {name.partition("/")[0] for name in whole}
    for moment in range(1, 1000):
        out = tmp_path / f"run{moment}"
        words = [str(trainer()), "train", *flags(**case.options(out, **settings))]
        environment = {**os.environ, "LD_PRELOAD": str(library), "KILL_AT": str(moment)}
        killed = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if killed.returncode == 0:
            break
        assert killed.returncode == -9, killed.stderr
        assert all(is_intact(path) for path in out.rglob(ADAPTER))
        if (out / "trace.jsonl").exists() and '"event":"best"' in (out / "trace.jsonl").read_text():
            assert list(out.glob(f"best/*/{ADAPTER}"))
        case.train(out, resume=True, **settings)
        assert files(out) == whole, moment
    assert 30 < moment < 300 and files(out) == whole


@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace (unshare -m)")
def test_a_best_adapter_waits_until_there_is_room(case, tmp_path):
    settings = held_out(case, lr=0.002, steps=300, keep="best", save_every=0, trace="steps")
    whole = case.train(tmp_path / "whole", **settings)
    disk = Disk(tmp_path / "disk", "1m")
    try:
        process = disk.train(case, **settings)
        process.stdout.readline()
        disk.fill()
        assert FULL in wait_for_event(disk, "waiting_for_storage")["detail"]
        disk.free()
        assert process.wait(60) == 0, process.stderr.read()
        out = disk.inside / "run"
        assert events(out).count("waiting_for_storage") >= 1
        assert files(out) == files(whole)
    finally:
        disk.close()
