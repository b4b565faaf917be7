"""Too little memory: an error that says so, never the end of the process, and nothing lost."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.runtime.running import Case, flags, probe, probe_path, records, trainer

KIB = 1024
WANT = ("not enough memory", "cannot start", "cannot be started")


def limited(case: Case, out: Path, kib: int, **options) -> subprocess.CompletedProcess[str]:
    words = [str(trainer()), "train", *flags(**case.options(out, **options))]
    command = ["prlimit", f"--data={kib * KIB}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def check(result: subprocess.CompletedProcess[str], out: Path, kib: int) -> None:
    """Hold that a run that did not complete said why, on standard error and in its trace."""
    what = f"at {kib} KiB: {result.returncode}, {result.stderr}"
    assert result.returncode in (0, 1), what
    if result.returncode == 0:
        return
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, what
    assert any(words in result.stderr for words in WANT), what
    assert " 0 MB" not in result.stderr
    if (out / "trace.jsonl").exists():
        end = records(out, "end")[-1]
        assert (end["status"], f"error: {end['error']}\n") == ("failed", result.stderr), what


def needed(case: Case, folder: Path, **options) -> int:
    """KiB with which a run completes, to 64 KiB."""
    least, most = 0, 1 << 20
    while most - least > 64:
        middle = (least + most) // 2
        out = folder / "search"
        if limited(case, out, middle, **options).returncode == 0:
            most = middle
        else:
            least = middle
        shutil.rmtree(out, ignore_errors=True)
    return most


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"threads": 1}, {"threads": 3, "optimizer": "sgd"}, {"checkpoints": "spill", "grad_accum": 2}],
    ids=["alone", "threads", "spill"],
)
def test_every_limit_of_memory(case, tmp_path, options):
    """From where the program can just be loaded to where the run completes."""
    most = needed(case, tmp_path, **options)
    limits = [*range(768, most, max(1, most // 160)), *range(most - 1024, most, 8)]
    results = set()
    for kib in limits:
        out = tmp_path / "run"
        result = limited(case, out, kib, **options)
        check(result, out, kib)
        results.add(result.stderr)
        shutil.rmtree(out, ignore_errors=True)
    assert len(results) > 4


def test_some_limits_of_memory(case, tmp_path):
    for kib in (800, 1100, 4000, 9000):
        out = tmp_path / str(kib)
        result = limited(case, out, kib)
        assert result.returncode == 1
        check(result, out, kib)


def test_a_run_that_finds_less_memory_keeps_its_state(case, tmp_path):
    out = case.train(tmp_path / "run", steps=3)
    before = (out / "state.bin").read_bytes()
    result = limited(case, out, 1000, steps=6, resume=True)
    assert result.returncode == 1
    check(result, out, 1000)
    assert "(the saved state is kept)" in result.stderr
    assert (out / "state.bin").read_bytes() == before
    whole = case.train(tmp_path / "whole", steps=6)
    case.train(out, steps=6, resume=True)
    assert (out / "state.bin").read_bytes() == (whole / "state.bin").read_bytes()


def test_memory_that_goes_while_a_run_is_under_way(case, tmp_path):
    """The limit sinks below what is held: the next that asks for memory gets none."""
    out = tmp_path / "run"
    options = case.options(out, steps=1000000, save_every=5, trace="full", threads=2)
    words = [str(trainer()), "train", *flags(**options)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)
    for line in process.stdout:
        if line.startswith("step 11/"):
            break
    subprocess.run(["prlimit", f"--pid={process.pid}", "--data=65536"], check=True)
    try:
        # Nothing may need memory any more; otherwise there is an error.
        _, error = process.communicate(timeout=3)
        assert process.returncode == 1, error
        assert "the state of step" in error
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=30)
        assert process.returncode in (0, 1), error
    assert (out / "state.bin").exists()


def write_group(folder: Path, version: int, limit: str, used: int, cache: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = [("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"), ("memory.max",)]
    names[1] = ("memory.max", "memory.current", "")
    limits, usage, prefix = names[version - 1]
    (folder / limits).write_text(f"{limit}\n")
    (folder / usage).write_text(f"{used}\n")
    halves = f"{prefix}inactive_file {cache // 2}\n{prefix}active_file {cache - cache // 2}\n"
    (folder / "memory.stat").write_text(f"anon {used - cache}\n{halves}")


@pytest.mark.parametrize("version", [1, 2])
def test_what_control_groups_leave(tmp_path, version):
    """Of limit and use in each, where the page cache makes room, the least that is left."""
    mib = 1 << 20
    line = {1: "7:cpu,memory:/outer/inner", 2: "0::/outer/inner"}[version]
    (tmp_path / "list").write_text(f"9:pids:/other\n{line}\n")
    root = tmp_path / "groups" / ("memory" if version == 1 else "")

    def left() -> int:
        return int(probe("group", tmp_path / "list", tmp_path / "groups"))

    write_group(root / "outer" / "inner", version, "max", 50 * mib, 10 * mib)
    write_group(root / "outer", version, "max", 90 * mib, 10 * mib)
    assert left() == 0
    write_group(root / "outer", version, str(200 * mib), 90 * mib, 10 * mib)
    assert left() == 120 * KIB
    write_group(root / "outer" / "inner", version, str(64 * mib), 50 * mib, 10 * mib)
    assert left() == 24 * KIB
    write_group(root / "outer" / "inner", version, str(64 * mib), 90 * mib, 0)
    assert left() == 1  # used up, which is not without a limit


@pytest.mark.parametrize(
    ("place", "size", "free", "answer"),
    [
        ("auto", 25_000_000, 100_000, "ram: they fit into a quarter of the 102.4 MB"),
        ("auto", 26_000_000, 100_000, "spill: they take more than a quarter of the 102.4 MB"),
        ("auto", 500_000_000, 4_000_000, "ram: they fit into a quarter of the 4.1 GB"),
        ("auto", 500_000_000, 0, "ram: how much memory is free is not known"),
        ("ram", 500_000_000, 1000, "ram: as asked for"),
        ("spill", 10, 4_000_000, "spill: as asked for"),
    ],
)
def test_checkpoints_go_to_storage_when_memory_is_short(place, size, free, answer):
    assert probe("place", place, size, free).decode().startswith(answer)


def test_the_run_record_says_where_checkpoints_went(case, tmp_path):
    for place in ("auto", "spill"):
        out = case.train(tmp_path / place, steps=1, grad_accum=2, checkpoints=place)
        checkpoints = records(out, "run")[0]["checkpoints"]
        assert checkpoints["place"] == ("ram" if place == "auto" else "spill")
        assert checkpoints["bytes"] == (3 + 1) * 2 * 24 * 64 * 4
        assert checkpoints["reason"]
        spilled = sum(step["spilled_bytes"] for step in records(out, "step"))
        assert spilled == (0 if place == "auto" else 3 * 2 * 24 * 64 * 4)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_weights_in_the_page_cache_are_not_asked_for_where_the_kernel_tells_nothing(tmp_path):
    """As in an app that cannot be debugged: its /proc/self/io belongs to root."""
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    reader, file = tmp_path / "reader", tmp_path / "weights"
    shutil.copy(probe_path(), reader)
    file.write_bytes(b"\1" * (64 << 20))
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o001)
    reader.chmod(0o111)
    told = [*user, "sh", "-c", f"exec {reader} prefetcher {file} keep {16 << 20} 0 1"]
    process = subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def plan() -> str:
        print("plan 0", file=process.stdin, flush=True)
        return process.stdout.readline().strip()

    io = Path(f"/proc/{process.pid}/io")
    print(f"touch {64 << 20}", file=process.stdin, flush=True)
    assert plan() == "rests"
    assert io.stat().st_uid == 0, "the kernel tells this process what it reads"
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    print(f"touch {64 << 20}", file=process.stdin, flush=True)
    assert plan() == "reads"
    process.stdin.close()
    assert process.wait(30) == 0
