"""Training on a file system that is full: it goes on until a save is due, and then waits."""

import itertools
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.running import Case, flags, records, trainer

FULL = "No space left on device"


def can_mount() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_mount(), reason="needs a mount namespace (unshare -m)")


class Disk:
    """A file system of its own, which only the processes started on it and this object see."""

    def __init__(self, place: Path, size: str) -> None:
        place.mkdir()
        script = 'mount -t tmpfs -o size="$2" none "$1" && echo mounted && exec cat'
        self.place = place
        pipe = subprocess.PIPE
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "-", place, size],
            stdin=pipe,
            stdout=pipe,
            text=True,
        )
        assert self._holder.stdout.readline() == "mounted\n"
        self.inside = Path(f"/proc/{self._holder.pid}/root{place}")

    def fill(self) -> None:
        with (self.inside / "filler").open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while file.write(b"\0" * size) == size:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        (self.inside / "filler").unlink()

    def train(self, case: Case, **options) -> subprocess.Popen[str]:
        enter = ["nsenter", "-m", "-t", str(self._holder.pid)]
        words = [str(trainer()), "train", *flags(**case.options(self.place / "run", **options))]
        pipe = subprocess.PIPE
        return subprocess.Popen([*enter, *words], stdout=pipe, stderr=pipe, text=True, bufsize=1)

    def close(self) -> None:
        self._holder.stdin.close()
        self._holder.wait(30)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk", "1m")
    yield disk
    disk.close()


def events(run: Path) -> list[str]:
    return [event["event"] for event in records(run, "event")]


def wait_for_event(disk: Disk, name: str) -> dict:
    for _ in range(600):
        lines = (disk.inside / "run" / "trace.jsonl").read_text().splitlines()
        found = [line for line in lines if f'"event":"{name}"' in line]
        if found:
            return json.loads(found[0])
        time.sleep(0.05)
    raise AssertionError(f"no event {name}")


OPTIONS = {"save_every": 4, "trace": "steps", "lr": 0.01}


def test_a_due_save_waits_until_there_is_room(case, tmp_path, disk):
    whole = case.train(tmp_path / "whole", steps=6, **OPTIONS)
    process = disk.train(case, steps=6, **OPTIONS)
    assert process.stdout.readline().startswith("step 1/6")
    disk.fill()
    event = wait_for_event(disk, "waiting_for_storage")
    assert FULL in event["detail"]
    time.sleep(0.5)
    assert process.poll() is None
    disk.free()
    assert process.wait(30) == 0, process.stderr.read()
    run = disk.inside / "run"
    assert events(run) == ["waiting_for_storage", "saved", "saved"]
    assert [step["step"] for step in records(run, "step")] == [1, 2, 3, 4, 5, 6]
    assert not list(run.glob("*.tmp"))
    for name in ("state.bin", "adapter_model.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


def test_a_stop_ends_the_wait_and_keeps_the_last_state(case, tmp_path, disk):
    whole = case.train(tmp_path / "whole", steps=8, **OPTIONS)
    assert disk.train(case, steps=4, **OPTIONS).wait(60) == 0
    run = disk.inside / "run"
    before = (run / "state.bin").read_bytes()
    disk.fill()
    process = disk.train(case, steps=8, resume=True, **OPTIONS)
    # The adapter's configuration is copied anew at the start, so that is where it ends.
    assert process.wait(30) == 1
    assert FULL in process.stderr.read()
    disk.free()
    process = disk.train(case, steps=8, resume=True, **OPTIONS)
    assert any(line.startswith("step 5/8") for line in process.stdout)
    disk.fill()
    wait_for_event(disk, "waiting_for_storage")
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 1
    assert time.monotonic() - started < 2
    message = process.stderr.read()
    assert FULL in message and "(the state of step 4 is kept)" in message
    assert message.count("\n") == 1
    assert (run / "state.bin").read_bytes() == before
    disk.free()
    assert disk.train(case, steps=8, resume=True, **OPTIONS).wait(60) == 0
    assert (run / "state.bin").read_bytes() == (whole / "state.bin").read_bytes()


def test_a_trace_that_cannot_be_written_stops_nothing(case, disk):
    process = disk.train(case, steps=4000, trace="steps", save_every=0, save_minutes=0)
    process.stdout.readline()
    disk.fill()
    lines = list(itertools.islice(process.stdout, 1000))
    assert len(lines) == 1000, process.stderr.read()
    disk.free()
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    assert process.wait(30) == 0, process.stderr.read()
    run = disk.inside / "run"
    steps = [step["step"] for step in records(run, "step")]
    assert len(steps) > 1000 and steps == list(range(1, len(steps) + 1))
    assert records(run, "end")[0]["status"] == "stopped"


def test_records_that_find_no_room_are_counted(case, tmp_path):
    disk = Disk(tmp_path / "disk", "16m")
    process = disk.train(case, steps=4000, save_every=0, save_minutes=0)
    process.stdout.readline()
    disk.fill()
    list(itertools.islice(process.stdout, 600))
    disk.free()
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    assert process.wait(30) == 0, process.stderr.read()
    run = disk.inside / "run"
    steps = [step["step"] for step in records(run, "step")]
    assert steps == list(range(1, len(steps) + 1))
    gaps = [event["detail"] for event in records(run, "event") if event["event"] == "trace_gap"]
    assert len(gaps) == 1
    missing = int(gaps[0].split()[0])
    assert gaps[0] == f"{missing} records are missing: the storage was full"
    kept = len([p for p in records(run, "phase") if p["phase"] not in ("load", "save")])
    assert missing > kept
    # Three layers: embed, 3 forward, head, 3 backward, 3 optimizer. Samples may be missing as well.
    assert 0 <= kept + missing - 11 * len(steps) <= 100
    disk.close()


def test_checkpoints_have_their_room_before_the_first_step(case, disk):
    disk.fill()
    with (disk.inside / "filler").open("r+b") as file:
        file.truncate((disk.inside / "filler").stat().st_size - (20 << 10))
    # 4 states of 6 KB for each of two sequences are 48 KB.
    process = disk.train(case, steps=2, checkpoints="spill", grad_accum=2, trace="steps")
    assert process.wait(30) == 1
    message = process.stderr.read()
    assert "cannot make room for checkpoints" in message and FULL in message
    assert events(disk.inside / "run") == []
