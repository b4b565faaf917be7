"""The directory that an export writes: complete or absent, whatever happens."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.bundle import manifest
from toolkit.errors import ToolkitError
from toolkit.files import atomic_directory

_MINUTE = 60


def check_target(output: Path) -> None:
    """Refuse to replace anything but an older bundle."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ToolkitError(f"{output} is not a directory", "Choose another output")
    if output.is_dir() and any(output.iterdir()) and not (output / manifest.NAME).exists():
        raise ToolkitError(
            f"{output} exists and is not a bundle", "Choose another output, or remove it"
        )


def check_space(output: Path, wanted: int, what: str = "bundle") -> None:
    """Refuse to begin what will not fit on the disk; `wanted` is in bytes, of `what`."""
    candidates = [output.absolute(), *output.absolute().parents]
    existing = next(path for path in candidates if path.exists())
    free = shutil.disk_usage(existing).free
    if free < wanted:
        raise ToolkitError(
            f"{existing} has {free / 1e6:,.0f} MB free, the {what} needs {wanted / 1e6:,.0f} MB",
            "Free some space or choose another output",
        )


@contextmanager
def new_directory(output: Path) -> Iterator[Path]:
    """`atomic_directory`, which also clears away what a killed export left behind."""
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(output)
    try:
        with atomic_directory(output) as directory:
            lock = os.open(directory, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield directory
            finally:
                os.close(lock)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise ToolkitError(
            f"Cannot write {output}: {os.strerror(error.errno)}",
            "Free some space or choose another output",
        ) from error


def _remove_leftovers(output: Path) -> None:
    """Remove temporary directories of this output that no living export holds locked."""
    for path in output.parent.glob(f".{output.name}.????????"):
        try:
            if not path.is_dir() or time.time() - path.stat().st_mtime < _MINUTE:
                continue
            lock = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(lock)
