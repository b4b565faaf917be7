"""A step whose weights come from storage, beside a step from the page cache, taking turns.

On a phone the frozen weights may not stay in the page cache from one pass to the next. Here the
trainer runs in a memory control group too small to keep them, so that forward and backward both
read the whole file from the disk again. Reading alone is measured in the same group: a
plain sequential read of the same bytes, cold. With reading and computing overlapped, a step
takes as long as the slower of the two.

Needs root and the memory controller (cgroup v1 or v2).
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness

GROUPS = Path("/sys/fs/cgroup")
ENTER = """
import os, sys
open(sys.argv[1], "w").write(str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""
READ = """
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
started, size = time.perf_counter(), 0
while chunk := os.read(fd, 1 << 20):
    size += len(chunk)
print(time.perf_counter() - started)
"""


def main() -> int:
    """Measure, print a table, write JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("models", nargs="*", default=["qwen2.5-0.5b"], help="(%(default)s)")
    parser.add_argument("--seq-len", type=int, nargs="*", default=[256, 64], help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each (%(default)s)")
    options = parser.parse_args()
    machine, results, bars = harness.Machine(), [], []
    for model in options.models:
        for seq_len in options.seq_len:
            result = _measure(harness.case(model, seq_len), options)
            result["name"] = f"{model} seq {seq_len}"
            results.append(result)
            name = f"{result['name']}: cold / slower part"
            bars.append(harness.Bar(name, result["ratio"], 1.15, 1.05))
    columns = ("", "warm s", "reading s", "cold s", "cold / slower", "read MB/step", "peak MB")
    rows = [
        (r["name"], r["warm"], r["reading"], r["cold"], r["ratio"], r["read_mb"], r["peak_mb"])
        for r in results
    ]
    harness.print_table("weights from storage", columns, rows)
    return harness.finish(options, machine, results, bars)


def _measure(case: harness.Case, options) -> dict[str, float]:
    file = case.bundle / "base.ptd"
    warm, cold, reading, read, peaks = [], [], [], [], []
    for _ in range(options.rounds):
        warm.append(statistics.median(_train(case, options).seconds))
        # Room for the trainer (60 MB here) and for what it reads ahead.
        with MemoryGroup(128 << 20) as group:
            run = _train(case, options, wrapper=group.enter)
            cold.append(statistics.median(run.seconds))
            peaks.append(run.peak_mb)
            read.append(_bytes_read(run))
            pace = group.read(file)
        reading.append(read[-1] / pace)
    slower = max(statistics.median(warm), statistics.median(reading))
    return {
        "warm": statistics.median(warm),
        "cold": statistics.median(cold),
        "reading": statistics.median(reading),
        "ratio": statistics.median(cold) / slower,
        "read_mb": statistics.median(read) / 1e6,
        "peak_mb": max(peaks),
    }


def _train(case: harness.Case, options, wrapper=()) -> harness.Run:
    flags = ("--optimizer", "sgd", "--checkpoints", "ram")
    return harness.train(case, 4, options.threads, *flags, wrapper=wrapper)


def _bytes_read(run: harness.Run) -> float:
    """Return bytes read from storage in a step after the first."""
    phases = [p for p in run.of("phase") if p["step"] and p["step"] > 1]
    return sum(p["io"]["read_bytes"] for p in phases) / len(run.seconds)


class MemoryGroup:
    """A control group with a limit on memory, page cache included."""

    def __init__(self, limit: int) -> None:
        first = (GROUPS / "memory").is_dir()
        self.path = (GROUPS / "memory" if first else GROUPS) / f"toolkit-{os.getpid()}"
        self._limit = "memory.limit_in_bytes" if first else "memory.max"
        self._bytes = limit

    def __enter__(self) -> "MemoryGroup":
        try:
            self.path.mkdir()
            (self.path / self._limit).write_text(str(self._bytes))
        except OSError as error:
            raise SystemExit(f"error: no control group for memory ({error}). Run as root") from None
        # Pages in the cache belong to whoever read them first: drop them.
        subprocess.run(["sync"])
        for file in harness.CACHE.glob("*/bundle/base.ptd"):
            fd = os.open(file, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
        return self

    def __exit__(self, *_: object) -> None:
        for _attempt in range(50):
            try:
                return self.path.rmdir()
            except OSError:
                time.sleep(0.1)

    @property
    def enter(self) -> list[str]:
        """Words that start a program inside the group."""
        return [sys.executable, "-c", ENTER, str(self.path / "cgroup.procs")]

    def read(self, file: Path) -> float:
        """Return bytes a second of reading a file from its start, cold."""
        fd = os.open(file, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        command = [*self.enter, sys.executable, "-c", READ, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return file.stat().st_size / json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
