"""Stopping, dying and going on: the bits are those of a run that was never interrupted."""

import errno
import os
import signal
import subprocess
import time

import pytest

from tests.oracle.rows import mixed_rows
from tests.runtime.cases import RANK_8BIT, SEQ_LENS, TOGETHER, VOCAB
from tests.runtime.running import error_of, flags, records, run, trainer
from tests.support.bundles import export_tiny
from toolkit.data.dataset import write_rows

SETTINGS = [
    {"optimizer": "adamw", "lr": 0.05, "grad_accum": 2, "schedule": "cosine", "warmup_steps": 2},
    {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "max_grad_norm": 0.5, "checkpoints": "spill"},
    {"optimizer": "lion", "lr": 0.005, "weight_decay": 0.1},
    {"optimizer": "adamw-8bit", "lr": 0.01, "max_grad_norm": 0.5, "clipping": "last-norm"},
]
SETTINGS += [
    {"optimizer": "apollo-mini", "lr": 1e-4, "projection_gap": 5, "state": "spill"},
    {"optimizer": "mlorc", "lr": 0.01, "projection_rank": 2, "max_grad_norm": 0.5},
    {"optimizer": "adalomo", "lr": 0.01, "rms_floor": 0.1},
]
IDS = ["adamw", "sgd", "lion", "adamw-8bit", "apollo-mini-spilled", "mlorc", "adalomo"]


def case_of(settings, make_case):
    return make_case(rank=RANK_8BIT if settings["optimizer"] == "adamw-8bit" else 4)


def final(out):
    return (out / "adapter_model.safetensors").read_bytes(), (out / "state.bin").read_bytes()


def start(case, out, **options):
    words = [str(trainer()), "train", *flags(**case.options(out, **options))]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(out, step):
    """Wait until a step's record is in the trace."""
    for _ in range(3000):
        path = out / "trace.jsonl"
        if path.exists() and f'"type":"step","step":{step},' in path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} never came")


@pytest.mark.parametrize("settings", SETTINGS, ids=IDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
def test_a_stopped_run_goes_on_with_the_same_bits(make_case, tmp_path, settings, number):
    case = case_of(settings, make_case)
    whole = case.train(tmp_path / "whole", steps=300, **settings)
    out = tmp_path / "run"
    process = start(case, out, steps=300, **settings)
    wait_for_step(out, 3)
    if number is None:
        (out / "stop").touch()
    else:
        process.send_signal(number)
    assert process.wait(60) == 0, process.stderr.read()
    end = records(out, "end")[0]
    assert end["status"] == "stopped"
    assert 3 <= end["steps"] < 300
    assert not (out / "stop").exists()
    assert [e["event"] for e in records(out, "event")] == ["stop_requested", "saved"]
    run("train", **case.options(out, steps=300, resume=True, **settings))
    assert final(out) == final(whole)
    runs = records(out, "run")
    assert [r["resumed_from"] for r in runs] == [None, end["steps"]]
    steps = [s["step"] for s in records(out, "step")]
    assert steps == list(range(1, 301))
    losses = [s["loss"] for s in records(out, "step")]
    assert losses == [s["loss"] for s in records(whole, "step")]


@pytest.mark.parametrize("settings", SETTINGS, ids=IDS)
def test_a_killed_run_goes_on_from_what_was_saved(make_case, tmp_path, settings):
    case = case_of(settings, make_case)
    whole = case.train(tmp_path / "whole", steps=300, **settings)
    out = tmp_path / "run"
    process = start(case, out, steps=300, save_every=4, **settings)
    wait_for_step(out, 11)
    process.kill()
    process.wait()
    with (out / "trace.jsonl").open("a") as trace:
        trace.write('{"type":"phase","torn')
    (out / "state.bin.tmp").write_bytes(b"half a state")
    run("train", **case.options(out, steps=300, resume=True, **settings))
    assert final(out) == final(whole)
    resumed = records(out, "run")[1]["resumed_from"]
    assert resumed >= 8
    assert resumed % 4 == 0
    assert records(out, "end")[0]["status"] == "completed"


def test_a_run_killed_before_it_saved_starts_again(case, tmp_path):
    whole = case.train(tmp_path / "whole", steps=5)
    out = tmp_path / "run"
    process = start(case, out, steps=100000, save_every=0)
    wait_for_step(out, 2)
    process.kill()
    process.wait()
    run("train", **case.options(out, steps=5, resume=True))
    assert final(out) == final(whole)
    assert [r["resumed_from"] for r in records(out, "run")] == [None, None]
    restarted = {"event": "restarted", "detail": "nothing was saved: starts again"}
    assert any(restarted.items() <= event.items() for event in records(out, "event"))


def test_an_adapter_named_again_is_what_a_restarted_run_begins_with(case, tmp_path):
    whole = case.train(tmp_path / "whole", steps=3)
    other = case.train(tmp_path / "other", steps=3, adapter=None)
    assert final(whole) != final(other)
    out = tmp_path / "run"
    process = start(case, out, steps=100000, save_every=0)
    wait_for_step(out, 2)
    process.kill()
    process.wait()
    case.train(out, steps=3, resume=True)
    assert final(out) == final(whole)
    # Once there is a state, it wins.
    case.train(out, steps=3, resume=True, adapter=None)
    assert final(out) == final(whole)


@pytest.mark.parametrize(
    ("more", "late"),
    [({"max_grad_norm": 0.5}, True), ({}, False), ({"method": "mezo", "lr": 1e-4}, True)],
    ids=["clipped", "updated-on-the-way", "estimated"],
)
def test_a_stop_drops_a_step_that_has_changed_nothing(make_case, tmp_path, more, late):
    """Such a step is computed when the run goes on, with the same samples and bits."""
    # Saving takes as long as hundreds of sequences.
    settings = {"grad_accum": 1200 if late else 300, "lr": 0.05, **more}
    case = make_case()
    begin = time.monotonic()
    whole = case.train(tmp_path / "whole", steps=2, **settings)
    longest = time.monotonic() - begin  # two steps
    out = tmp_path / "run"
    process = start(case, out, steps=2, **settings)
    wait_for_step(out, 1)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, process.stderr.read()
    assert records(out, "end")[0]["steps"] == 1
    assert not late or time.monotonic() - begin < longest / 3
    run("train", **case.options(out, steps=2, resume=True, **settings))
    assert final(out) == final(whole)


def test_a_finished_run_can_be_made_longer(case, tmp_path):
    whole = case.train(tmp_path / "whole", steps=9)
    out = case.train(tmp_path / "run", steps=4)
    before = final(out)
    case.train(out, steps=4, resume=True)
    assert final(out) == before
    case.train(out, steps=9, resume=True)
    assert final(out) == final(whole)


def test_a_stop_file_of_an_earlier_run_is_not_obeyed(case, tmp_path):
    """Whatever the clock said when it was made: phones set theirs when they find a network."""
    for name, age in (("past", -3600), ("future", 3600)):
        out = tmp_path / name
        out.mkdir()
        (out / "stop").touch()
        os.utime(out / "stop", (time.time() + age, time.time() + age))
        case.train(out, steps=2)
        assert records(out, "end")[0]["status"] == "completed"


def test_a_stop_file_of_now_is_obeyed_whatever_its_time(case, tmp_path):
    out = tmp_path / "run"
    process = start(case, out, steps=1000000)
    wait_for_step(out, 3)
    made = tmp_path / "stop"
    made.touch()
    os.utime(made, (0, 0))
    made.rename(out / "stop")
    assert process.wait(60) == 0, process.stderr.read()
    assert records(out, "end")[0]["status"] == "stopped"


def test_a_run_is_not_overwritten(case, tmp_path):
    out = case.train(tmp_path / "run", steps=2)
    before = final(out)
    assert "already holds a run" in error_of("train", **case.options(out))
    assert final(out) == before
    assert records(out, "end")[0]["status"] == "completed"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"optimizer": "sgd"}, "with optimizer adamw, not sgd. Resume with the same --optimizer"),
        ({"seed": 1}, "with seed 0, not 1. Resume with the same --seed"),
        ({"arithmetic": "fixed16"}, "with arithmetic float32, not fixed16"),
        ({"order": "sequential"}, "with order shuffled, not sequential"),
        ({"grad_accum": 2}, "with sequences_a_step 1, not 2"),
    ],
)
def test_a_state_of_other_settings_is_refused(case, tmp_path, change, what):
    out = case.train(tmp_path / "run", steps=2)
    before = final(out)
    assert what in error_of("train", **case.options(out, steps=5, resume=True, **change))
    assert final(out) == before


def test_a_state_with_another_momentum_is_refused(case, tmp_path):
    out = case.train(tmp_path / "run", steps=2, optimizer="sgd")
    options = case.options(out, steps=5, resume=True, optimizer="sgd", momentum=0.9)
    assert "was saved without the momentum of this optimizer" in error_of("train", **options)


def remade(case, folder, seed=1, seq_lens=(*SEQ_LENS, TOGETHER)):
    """Export a bundle of the same model again, so that only what is asked for differs."""
    return export_tiny(folder, "llama", layers=3, seq_lens=seq_lens, seed=seed)


def test_other_content_of_the_same_shape_is_refused_by_name(case, tmp_path):
    out = case.train(tmp_path / "run", steps=2)
    before = final(out), (out / "trace.jsonl").read_bytes()
    rows = mixed_rows(SEQ_LENS[0], VOCAB, seed=1)
    rows.tokens[0, 3] ^= 1
    write_rows(tmp_path / "data.ptd", rows)
    for change, what in [
        ({"bundle": remade(case, tmp_path / "a", seed=2)}, "the weights of another bundle"),
        (
            {"bundle": remade(case, tmp_path / "b", seq_lens=(24,))},
            "the programs of another export",
        ),
        ({"data": tmp_path / "data.ptd"}, "other data. Resume with the data it was started with"),
        ({"data": case.other_length}, "seq_len 24, not 40. Resume with the data"),
    ]:
        message = error_of("train", **case.options(out, steps=5, resume=True, **change))
        assert f"state.bin was saved with {what}" in message
        assert message.endswith(", or start a new run (the saved state is kept)")
        assert final(out) == before[0]
    # The same content under other names is the same run.
    run("train", **case.options(out, steps=3, resume=True, bundle=remade(case, tmp_path / "c")))


def test_changed_settings_are_said_and_traced(case, tmp_path):
    out = case.train(tmp_path / "run", steps=2, lr=0.001)
    result = run("train", **case.options(out, steps=3, lr=0.5, resume=True, beta2=0.99))
    changes = "steps 2 -> 3, lr 0.001 -> 0.5, beta2 0.999 -> 0.99"
    assert result.stdout.splitlines()[:2] == ["resumed: step 2", f"settings_changed: {changes}"]
    [event] = [e for e in records(out, "event") if e["event"] == "settings_changed"]
    assert event["detail"] == changes
    result = run("train", **case.options(out, steps=3, lr=0.5, resume=True, beta2=0.99))
    assert "changed" not in result.stdout


def test_a_damaged_state_is_refused(case, tmp_path):
    out = case.train(tmp_path / "run", steps=2)
    state = bytearray((out / "state.bin").read_bytes())
    state[len(state) // 2] ^= 1
    (out / "state.bin").write_bytes(state)
    assert "is damaged" in error_of("train", **case.options(out, steps=5, resume=True))


LOCK = """
#include <errno.h>
#include <stdlib.h>
int flock(int fd, int operation) { errno = atoi(getenv("LOCK_ERRNO")); return -1; }
"""


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSYS, None),
        (errno.EOPNOTSUPP, None),
        (errno.EWOULDBLOCK, "another trainer is running in"),
        (errno.ENOLCK, "cannot lock"),
    ],
)
def test_storage_without_locks_is_no_other_trainer(case, tmp_path, number, message):
    (tmp_path / "lock.c").write_text(LOCK)
    library = tmp_path / "lock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "lock.c"], check=True)
    words = [str(trainer()), "train", *flags(**case.options(tmp_path / "run"))]
    environment = {**os.environ, "LD_PRELOAD": str(library), "LOCK_ERRNO": str(number)}
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == (0 if message is None else 1)
    assert message is None or message in result.stderr


def test_two_trainers_do_not_share_a_directory(case, tmp_path):
    out = tmp_path / "run"
    process = start(case, out, steps=100000)
    try:
        wait_for_step(out, 1)
        assert "another trainer is running" in error_of("train", **case.options(out, resume=True))
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert records(out, "end")[0]["status"] == "stopped"
