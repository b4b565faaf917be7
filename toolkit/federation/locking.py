"""One process at a time for a federation's folder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from toolkit.errors import ToolkitError


@contextmanager
def alone(out: Path, seconds: float = 0.0) -> Iterator[None]:
    """Keep other processes from a federation's folder, by a file beside it.

    Args:
        seconds: To wait for one that ends.

    Raises:
        ToolkitError: Another process writes the folder.
    """
    real = out.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    path = real.parent / f".{real.name}.lock"
    end = time.monotonic() + seconds
    while (file := _locked(path)) is None:
        if time.monotonic() > end:
            raise ToolkitError(
                f"process {_holder(path)} still writes {out}", "End it, and start the run again"
            )
        time.sleep(0.5)
    with file:
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> IO[str] | None:
    """Return the file, locked and empty; None while another process has it."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            file.truncate(0)
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()  # or it was removed by its holder meanwhile
    return None


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "of somebody"
    except FileNotFoundError:
        return "of somebody"
