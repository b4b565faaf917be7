"""The trainer where the system gives it no more memory or threads: one line, never a crash."""

import resource
import subprocess

from tests.runtime.running import Case, flags, trainer

STEP = 512 << 10


def evaluate(case: Case, room: int, threads: int) -> subprocess.CompletedProcess[str]:
    """Evaluate with so many bytes of address space."""
    options = {"bundle": case.bundle, "data": case.data, "adapter": case.adapter, "max_samples": 1}
    return subprocess.run(
        [trainer(), "evaluate", *flags(threads=threads, **options)],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (room, room)),
    )


def error_of(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, (result.returncode, result.stderr)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_without_memory_for_scratch(case):
    threads = 48  # scratch is then the largest thing that is asked for
    fails, works = 0, 1 << 30
    assert evaluate(case, works, threads).returncode == 0
    while works - fails > STEP:
        middle = (fails + works) // 2 // STEP * STEP
        if evaluate(case, middle, threads).returncode == 0:
            works = middle
        else:
            fails = middle
    errors = [error_of(evaluate(case, fails - i * STEP, threads)) for i in range(16)]
    scratch = [error for error in errors if "not enough memory for" in error]
    assert any("bytes of scratch" in error for error in scratch), errors
    assert all("Export" not in error for error in scratch)  # the bundle is not to blame


def test_without_room_for_threads(case):
    error = error_of(evaluate(case, 1 << 30, threads=200))
    assert "cannot start 200 threads" in error and "Use fewer threads" in error
