"""Bringing a run back. Nothing the device says is trusted: names come from a list here, sizes have
limits, contents are checked against the device's digest, and only regular files are written, into
one new folder.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.data.template import FILE as TEMPLATE_FILE
from toolkit.device.base import Device
from toolkit.device.errors import DeviceCommandError
from toolkit.device.kept import (
    ADAPTER,
    BEST,
    CHECKPOINTS,
    MOST_BYTES,
    SPLIT,
    complete_checkpoints,
    find_computer_states,
    find_kept,
    make_parents,
    remove_old,
)
from toolkit.device.layout import run_path
from toolkit.device.run_settings import settle_settings
from toolkit.device.same_run import check_target, identity_on_device, remove_stale
from toolkit.device.shell import quote
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file
from toolkit.replaying.estimates import FILE as ESTIMATES

_GIB = 1 << 30
# What a run consists of, with the most bytes each file may have. state.bin, and what a
# computer knows of a split run, only on request.
RUN_FILES = {
    "trace.jsonl": 2 * _GIB,
    ADAPTER: MOST_BYTES,
    ESTIMATES: 2 * _GIB,
    "adapter_config.json": 1 << 20,
    TEMPLATE_FILE: 1 << 20,
    "settings.json": 1 << 20,
    "trainer.log": 64 << 20,
}
STATE_FILES = {"state.bin": 16 * _GIB}
# Of the device's own bookkeeping, the app's too, or looked into; not worth a word when they stay
# behind.
_SILENT = {"pid", "trainer.pid", "exit", "stop", "state.bin", "settings.new.json", SPLIT}
_SILENT |= {"run.json", "reserve"}
_KEPT = {BEST, CHECKPOINTS, SPLIT}
_LOOKS = 3


@dataclass
class Pulled:
    """What a pull brought: sizes by name, and the names it left on the device.

    `best_step` is the step of the adapter where the run keeps the best one, else None.
    """

    files: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    reused_bytes: int = 0
    best_step: int | None = None


Progress = Callable[[str, int, int], None]


def pull_run(
    device: Device,
    run: str,
    target: Path,
    *,
    with_state: bool = False,
    progress: Progress = lambda name, done, total: None,
) -> Pulled:
    """Copy the files of a run to the folder `target`, which appears complete or not at all.

    Of a run that keeps the best adapter that one comes instead of the last, and its numbered
    checkpoints come along. A run that is still going gives its trace up to now. After a broken
    connection the same call goes on from what already came (kept in `.NAME.partial` beside the
    target). A folder that holds the same run is brought up to date; one that holds another, or
    anything else, is refused.
    """
    remote = run_path(device, run)
    settle_settings(device, run)
    wanted, pulled = _look(device, run, with_state)
    check_target(target, identity_on_device(device, remote))
    partial = target.parent / f".{target.name}.partial"
    prepare_partial(partial)
    for look in range(1, _LOOKS + 1):
        try:
            _fetch_all(device, remote, wanted, pulled, partial, progress)
            break
        except DeviceCommandError:
            # A run that goes on removes what it keeps no longer.
            gone = any(device.stat(f"{remote}/{file.path}") is None for file in wanted)
            if look == _LOOKS or not gone:
                raise
            wanted, pulled = _look(device, run, with_state)
    install_files(partial, target, [*pulled.files, *complete_checkpoints(partial, pulled.files)])
    return pulled


@dataclass(frozen=True)
class _File:
    """A file of a run: its path on the device below the run's folder, its name here, its bytes."""

    path: str
    name: str
    size: int


def _look(device: Device, run: str, with_state: bool) -> tuple[list[_File], Pulled]:
    """Return what is to be fetched, and what is known of the pull before that.

    Raises:
        ToolkitError: There is no such run, or something in it is not what it should be.
    """
    remote = run_path(device, run)
    limits = RUN_FILES | (STATE_FILES if with_state else {})
    sizes, left, folders = _inspect(device, remote, limits)
    if not sizes:
        raise ToolkitError(
            f"there is no run {run!r} on device {device.spec}", _known_runs(device) or "Train first"
        )
    files = {name: _File(name, name, size) for name, size in sizes.items()}
    pulled = Pulled(left=left)
    if BEST in folders and (best := find_kept(device, remote, BEST)):
        files[ADAPTER] = _File(best[-1].path, ADAPTER, best[-1].size)
        pulled.best_step = best[-1].step
    for kept in find_kept(device, remote, CHECKPOINTS) if CHECKPOINTS in folders else ():
        files[kept.path] = _File(kept.path, kept.path, kept.size)
    for kept in find_computer_states(device, remote) if with_state and SPLIT in folders else ():
        files[kept.path] = _File(kept.path, kept.path, kept.size)
    return list(files.values()), pulled


def _fetch_all(
    device: Device,
    remote: str,
    files: list[_File],
    pulled: Pulled,
    partial: Path,
    progress: Progress,
) -> None:
    total, done = sum(file.size for file in files), 0
    for file in files:

        def advance(count: int, name: str = file.name) -> None:
            nonlocal done
            done += count
            progress(name, done, total)

        make_parents(partial, file.name)
        local = partial / file.name
        pulled.reused_bytes += fetch_file(
            device, f"{remote}/{file.path}", local, file.size, advance
        )
        pulled.files[file.name] = file.size


def _inspect(
    device: Device, remote: str, limits: dict[str, int]
) -> tuple[dict[str, int], list[str], set[str]]:
    """Return the sizes of the files to fetch, the names of others, printable, and the folders of
    what is kept.
    """
    entry = device.stat(remote)
    if entry is None or entry.kind != "directory":
        return {}, [], set()
    sizes: dict[str, int] = {}
    folders: set[str] = set()
    left: list[str] = []
    for entry in device.list(remote):
        limit = limits.get(entry.name)
        if limit is None and entry.name in _KEPT and entry.kind == "directory":
            folders.add(entry.name)
        elif limit is None:
            if entry.name not in _SILENT and len(left) < 20:
                left.append(ascii(entry.name)[1:-1][:64])
        elif entry.kind != "file":
            raise ToolkitError(
                f"{entry.name} of the run is a {entry.kind} on device {device.spec}, not a file",
                "Nothing was copied; look at the device with `adb shell`",
            )
        elif entry.size > limit:
            raise ToolkitError(
                f"{entry.name} of the run has {entry.size} bytes on device {device.spec}, "
                f"more than the {limit} it can have",
                "Nothing was copied; look at the device with `adb shell`",
            )
        else:
            sizes[entry.name] = entry.size
    return {name: sizes[name] for name in limits if name in sizes}, left, folders


def _known_runs(device: Device) -> str:
    runs = [entry for entry in device.list(f"{device.root}/runs") if entry.kind == "directory"]
    names = ", ".join(ascii(entry.name)[1:-1][:64] for entry in runs[:20])
    return f"Runs there: {names}" if names else ""


def prepare_partial(partial: Path) -> None:
    """Make the folder that keeps what came until everything is there."""
    if partial.is_symlink():
        raise ToolkitError(f"{partial} is a symbolic link", "Remove it")
    partial.mkdir(exist_ok=True)


def fetch_file(
    device: Device, remote: str, local: Path, size: int, advance: Callable[[int], None]
) -> int:
    """Fetch the first `size` bytes of a file; return how many of them were here already."""
    start = local.stat().st_size if local.is_file() and not local.is_symlink() else 0
    if start > size:
        start = 0
    for offset in (start, 0):
        expected = _remote_sha256(device, remote, size)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (0 if offset else os.O_TRUNC)
        with os.fdopen(os.open(local, flags, 0o644), "wb") as sink:
            sink.seek(offset)
            advance(offset)
            counted = offset

            def count(received: int) -> None:
                nonlocal counted
                counted += received
                advance(received)

            device.pull(remote, sink, offset, size - offset, count)
            sink.flush()
            os.fsync(sink.fileno())
        if sha256_file(local) == expected:
            return offset
        advance(-counted)
    local.unlink()
    raise DeviceCommandError(
        f"{local.name} arrived damaged from device {device.spec}", "Try again, and check the cable"
    )


def _remote_sha256(device: Device, remote: str, size: int) -> str:
    """Return the device's digest of a file's first bytes; a trace may grow while it is read."""
    if size == 0:
        return hashlib.sha256().hexdigest()
    output = device.check(f"head -c {int(size)} {quote(remote)} | sha256sum", 900.0)
    return output.split()[0] if output.split() else ""


def install_files(partial: Path, target: Path, names: list[str]) -> None:
    """Put the fetched files in place: the folder in one rename, or file by file if it exists."""
    for stray in sorted(partial.rglob("*"), reverse=True):
        if stray.is_dir() and not stray.is_symlink():
            if not any(stray.iterdir()):
                stray.rmdir()
        elif stray.relative_to(partial).as_posix() not in names:
            stray.unlink()
    if not target.exists():
        partial.rename(target)
        return
    remove_stale(target, RUN_FILES.keys() | STATE_FILES.keys(), set(names))
    remove_old(target, set(names))
    for name in names:
        make_parents(target, name)
        (partial / name).replace(target / name)
    shutil.rmtree(partial)
