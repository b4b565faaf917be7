"""Weights from storage: read ahead in a window, dropped behind it, mapped as they are used."""

import ctypes
import mmap
import os
import subprocess
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.runtime.running import flags, probe, probe_path, records, run, trainer

MB = 1 << 20
HUGE = 2 * MB
STAGE, STAGES = 16 * MB, 10
WINDOW = 32 * MB
# The kernel reads ahead in steps of its own, beyond what was asked for: by what the disk reads
# ahead at a time, 8 MB at most on the machines seen.
OVERSHOOT = 20 * MB


def resident(path: Path, begin: int = 0, end: int | None = None) -> float:
    """Return the share of a file's bytes that the page cache holds."""
    size = path.stat().st_size
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    with path.open("rb") as file:
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages) == 0
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
    part = bytes(pages)[begin // mmap.PAGESIZE : (end or size) // mmap.PAGESIZE]
    return sum(page & 1 for page in part) / len(part)


def has_read(path: Path, begin: int, end: int) -> bool:
    """Whether a range is in the page cache, but for single pages the system has taken back."""
    return resident(path, begin, end) > 0.8 and resident(path, end - MB, end) > 0


def make_cold(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    if resident(path) > 0:
        pytest.skip("this file system keeps its pages")


@pytest.fixture
def cold_file(tmp_path):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(STAGE * STAGES)
    make_cold(path)
    return path


class Process:
    """A part of the engine that obeys lines until it is closed."""

    def __init__(self, *words: object) -> None:
        self._process = subprocess.Popen(
            [probe_path(), *map(str, words)], stdin=subprocess.PIPE, text=True
        )

    def say(self, *lines: str) -> None:
        print(*lines, sep="\n", file=self._process.stdin, flush=True)

    def close(self) -> int:
        self._process.stdin.close()
        return self._process.wait(timeout=60)


class Reader(Process):
    """A prefetcher with stages of the same size."""

    def __init__(
        self, path: Path, page_cache: str, request: int, stage: int = STAGE, sweeps: int = 1
    ) -> None:
        super().__init__("prefetcher", path, page_cache, stage, request, sweeps)


@pytest.fixture(params=["keep", "drop"])
def page_cache(request):
    return request.param


# Storage that reads ahead a lot is read in sequence, storage that does not by many requests.
@pytest.fixture(params=[128 << 10, 8 * MB])
def reader(request, cold_file, page_cache):
    reader = Reader(cold_file, page_cache, request.param)
    yield reader
    assert reader.close() == 0


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.01)


def test_reading_stays_in_its_window(cold_file, reader):
    wait_for(lambda: has_read(cold_file, 0, WINDOW))
    time.sleep(0.1)
    assert resident(cold_file, WINDOW + OVERSHOOT) == 0
    reader.say("begin 3", f"used {STAGE // 2}")
    at = 3 * STAGE + STAGE // 2
    wait_for(lambda: has_read(cold_file, 3 * STAGE, at + WINDOW))
    assert resident(cold_file, at + WINDOW + OVERSHOOT) == 0


def test_using_more_than_a_stage_has_reads_no_further(cold_file, reader):
    reader.say("begin 0", f"used {100 * STAGE}")
    wait_for(lambda: has_read(cold_file, 0, STAGE + WINDOW))
    time.sleep(0.1)
    assert resident(cold_file, STAGE + WINDOW + OVERSHOOT) == 0


@pytest.mark.parametrize("page_cache", ["drop"], indirect=True)
def test_what_was_used_is_dropped(cold_file, reader):
    wait_for(lambda: has_read(cold_file, 0, WINDOW))
    for stage in range(1, STAGES):
        reader.say(f"begin {stage}")
        # Only a folio that reaches into this stage stays.
        wait_for(lambda stage=stage: resident(cold_file, 0, stage * STAGE) <= 2 * MB / STAGE)
        wait_for(lambda stage=stage: has_read(cold_file, stage * STAGE, (stage + 1) * STAGE))
    last = (STAGES - 1) * STAGE
    reader.say(f"used {12 * MB}")
    wait_for(lambda: resident(cold_file, last, last + 6 * MB) == 0)
    assert has_read(cold_file, last + 12 * MB, last + STAGE)


def test_a_sweep_is_dropped_and_read_again_for_the_next(cold_file):
    """One stage of the whole file, far larger than the window."""
    size = STAGE * STAGES
    reader = Reader(cold_file, "drop", 8 * MB, stage=size, sweeps=2)
    wait_for(lambda: has_read(cold_file, 0, WINDOW))
    for used in range(STAGE, size, STAGE):
        reader.say(f"used {STAGE}")
        ahead = min(used + WINDOW, size)
        wait_for(lambda used=used, ahead=ahead: has_read(cold_file, used, ahead))
        if used == 5 * STAGE:
            wait_for(lambda used=used: resident(cold_file, 0, used - 8 * MB) == 0)
    # What is left of the window lies at the start.
    wait_for(lambda: has_read(cold_file, 0, WINDOW - STAGE))
    reader.say(f"used {STAGE}")
    wait_for(lambda: has_read(cold_file, 0, WINDOW))
    for used in range(STAGE, 5 * STAGE, STAGE):
        reader.say(f"used {STAGE}")
        wait_for(lambda used=used: has_read(cold_file, used, used + WINDOW))
    wait_for(lambda: resident(cold_file, 0, 3 * STAGE) == 0)
    assert reader.close() == 0


def test_a_sweep_within_the_window_stays_for_the_next(cold_file):
    reader = Reader(cold_file, "drop", 8 * MB, sweeps=3)
    last = (STAGES - 1) * STAGE
    reader.say(f"begin {STAGES - 1}")
    for _ in range(2):
        wait_for(lambda: has_read(cold_file, last, last + STAGE))
        reader.say(f"used {STAGE}")
        time.sleep(0.2)
    assert has_read(cold_file, last, last + STAGE)
    reader.say(f"used {STAGE}")
    wait_for(lambda: resident(cold_file, last, last + STAGE) == 0)
    assert reader.close() == 0


def test_stages_without_bytes_are_passed_over(cold_file, page_cache):
    reader, half = Process("empty-stages", cold_file, page_cache), STAGE * STAGES // 2
    wait_for(lambda: has_read(cold_file, 0, WINDOW))  # beyond the first, which is empty
    reader.say("begin 1", f"used {half}")
    wait_for(lambda: has_read(cold_file, 0, half))
    for stage in (2, 3):
        reader.say(f"begin {stage}", f"used {half}")
        if page_cache == "drop":
            wait_for(lambda: resident(cold_file, 0, half - HUGE) == 0)
        time.sleep(0.02)  # for the reader to meet the stage
    assert reader.close() == 0


@pytest.mark.parametrize("page_cache", ["keep"], indirect=True)
def test_what_was_used_is_kept(cold_file, reader):
    for stage in range(STAGES):
        wait_for(lambda stage=stage: has_read(cold_file, stage * STAGE, (stage + 1) * STAGE))
        reader.say(f"begin {stage + 1}" if stage + 1 < STAGES else f"used {STAGE}")
    # Not all of it for certain: the kernel may have its own plans.
    assert resident(cold_file) > 0.8


def test_training_has_the_same_bits_and_drops_what_it_used(case, tmp_path):
    adapters, read = {}, {}
    base = case.bundle / "base.ptd"
    for page_cache in ("keep", "drop", "auto"):
        make_cold(base)
        out = tmp_path / page_cache
        options = {"data": case.data, "out": out, "steps": 12, "lr": 0.01, "threads": 2}
        run("train", bundle=case.bundle, page_cache=page_cache, **options)
        adapters[page_cache] = load_file(out / "adapter_model.safetensors")
        read[page_cache] = resident(base)
        assert records(out, "run")[0]["settings"]["page_cache"] == page_cache
    assert min(read["keep"], read["auto"]) > 0.8
    assert read["drop"] < 1
    for name, tensor in adapters["keep"].items():
        assert tensor.equal(adapters["drop"][name])
        assert tensor.equal(adapters["auto"][name])


def test_mappings_tell_how_they_are_read_and_lie_where_no_huge_page_fits(tmp_path):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(16 * MB)
    for access, flag in {"whole": "sr", "rows": "rr"}.items():
        for offset in (0, 4096, 3 * MB + 64):
            text = probe("mapping", path, offset, 4 * MB, access).decode()
            address, flags = text.split(maxsplit=1)
            assert flag in flags.split()
            assert (int(address) - offset) % HUGE == HUGE // 2


def test_free_memory_is_at_most_what_is_left_of_the_limit_of_the_control_group(case, tmp_path):
    root = Path("/sys/fs/cgroup")
    first = (root / "memory").is_dir()
    group = (root / "memory" if first else root) / f"toolkit-test-{os.getpid()}"
    try:
        group.mkdir()
        limit = "memory.limit_in_bytes" if first else "memory.max"
        (group / limit).write_text(str(100 * MB))
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    enter = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    out = tmp_path / "run"
    words = flags(bundle=case.bundle, data=case.data, out=out, steps=1, threads=1)
    try:
        subprocess.run([*enter, trainer(), "train", *words], check=True, stdout=subprocess.DEVNULL)
    finally:
        group.rmdir()
    available = records(out, "run")[0]["device"]["memory_available_kib"]
    assert 70 * 1024 < available < 100 * 1024
