"""When a run saves: by steps, by time, and not more than storage should take."""

import subprocess
import time
from itertools import pairwise

import pytest

from tests.runtime.running import error_of, flags, probe, records, run, trainer

GB_AN_HOUR = 1e9 / 3600
MB = 1_000_000


def saves(steps, minutes, size, seconds, count, *, asked=False) -> tuple[list[int], bool]:
    """Return the steps after which a run saves, and whether fewer than it was told to."""
    word = "asked" if asked else "default"
    lines = probe("saves", steps, word, minutes, size, seconds, count).decode().split()
    stretched = lines[-1:] == ["stretched"]
    return [int(line) for line in lines[: len(lines) - stretched]], stretched


def test_by_steps_or_by_time_whichever_comes_first():
    assert saves(50, 2, 1000, 0.1, 160) == ([50, 100, 150], False)
    assert saves(50, 2, 1000, 10, 40) == ([12, 24, 36], False)
    assert saves(20, 2, 1000, 10, 40) == ([12, 20, 32, 40], False)
    assert saves(0, 2, 1000, 10, 30) == ([12, 24], False)
    assert saves(10, 0, 1000, 100, 30) == ([10, 20, 30], False)
    assert saves(0, 0, 1000, 100, 300) == ([], False)
    assert saves(50, 2, 1000, 500, 3) == ([1, 2, 3], False)


@pytest.mark.parametrize("seconds", [0.5, 7, 60])
@pytest.mark.parametrize("size", [40 * MB, 240 * MB])
def test_saves_write_no_more_than_a_gigabyte_an_hour(size, seconds):
    count = int(4 * 3600 / seconds)
    steps, stretched = saves(50, 2, size, seconds, count)
    assert stretched
    assert len(steps) * size <= 4e9
    # As soon as that is kept: nothing is put off further than a step.
    apart = size / GB_AN_HOUR
    for before, after in zip([0, *steps], steps, strict=False):
        assert apart <= (after - before) * seconds <= max(apart, 120) + seconds


def test_steps_that_were_asked_for_are_obeyed():
    steps, stretched = saves(5, 2, 240 * MB, 1, 20, asked=True)
    assert steps == [5, 10, 15, 20] and not stretched


def test_a_run_saves_by_time(case, tmp_path):
    out = tmp_path / "run"
    options = case.options(out, steps=10**6, save_every=0, save_minutes=0.005, trace="steps")
    process = subprocess.Popen(
        [str(trainer()), "train", *flags(**options)], stdout=subprocess.DEVNULL
    )
    time.sleep(2)
    process.terminate()
    assert process.wait(30) == 0
    events = records(out, "event")
    times = [event["t"] / 1e9 for event in events if event["event"] == "saved"]
    assert 3 <= len(times) <= 8
    assert min(b - a for a, b in pairwise(times[:-1])) >= 0.29
    for event in events:
        if event["event"] == "saved":
            assert event["detail"] == f"step {event['step']}"


def test_a_run_says_once_that_it_saves_more_rarely(case, tmp_path):
    """Tiny states, so that steps of milliseconds would write gigabytes in an hour."""
    out = tmp_path / "run"
    options = {
        name: value for name, value in case.options(out, steps=300, save_minutes=1e-6).items()
    }
    run("train", **options, trace="steps")
    told = [e for e in records(out, "event") if e["event"] == "saves_apart"]
    assert len(told) == 1
    assert "no more than 1 GB an hour" in told[0]["detail"]
    saved = [e for e in records(out, "event") if e["event"] == "saved"]
    assert saved[-1]["step"] == 300
    seconds = records(out, "end")[0]["seconds"]
    size = sum((out / name).stat().st_size for name in ("state.bin", "adapter_model.safetensors"))
    assert (len(saved) - 1) * size <= seconds * GB_AN_HOUR + size


def test_what_a_save_writes_is_its_own(case, tmp_path):
    """Steps without spilled checkpoints write next to nothing; the save at the end all of it."""
    out = case.train(tmp_path / "run", steps=6, checkpoints="ram", save_minutes=0)
    size = sum((out / name).stat().st_size for name in ("state.bin", "adapter_model.safetensors"))
    (saved,) = [e for e in records(out, "event") if e["event"] == "saved"]
    steps = records(out, "step")
    if saved["written_bytes"] == 0:
        pytest.skip("this file system counts nothing as written")
    assert size <= saved["written_bytes"] <= size + 64 * 1024
    # The trace of a step, by pages.
    assert all(step["written_bytes"] <= 64 * 1024 for step in steps)
    assert all(step["spilled_bytes"] == 0 for step in steps)


def test_a_run_that_was_completed_stays_as_it_is(case, tmp_path):
    out = case.train(tmp_path / "run", steps=4)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    for steps in (4, 3):
        case.train(out, steps=steps, resume=True)
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    assert after == before
    # One that was killed between its last save and the end of its trace is told the end.
    trace = out / "trace.jsonl"
    lines = trace.read_text().splitlines(keepends=True)
    trace.write_text("".join(lines[:-1]))
    case.train(out, steps=4, resume=True)
    assert records(out, "end")[0]["status"] == "completed"
    case.train(out, steps=5, resume=True)
    assert [step["step"] for step in records(out, "step")] == [1, 2, 3, 4, 5]


def test_adamw_divides_by_more_than_nothing(case, tmp_path):
    message = error_of("train", code=2, **case.options(tmp_path / "run", eps=0))
    assert "--eps 0: expected 1e-30 to 1" in message
    case.train(tmp_path / "run", eps="1e-30")
