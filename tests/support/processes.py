"""What runs on this machine, by a word of its command line."""

import time
from collections.abc import Callable
from pathlib import Path


def processes_with(word: str) -> dict[int, str]:
    """Return command lines by pid of the processes that have `word` in theirs."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has ended
                continue
            if word in line:
                found[int(entry.name)] = line.strip()
    return found


def wait_for(condition: Callable[[], object], seconds: float = 30.0, every: float = 0.05) -> None:
    """Wait until `condition()`, asked `every` so many seconds, is true; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain"
        time.sleep(every)
