"""Sending folders to a device: only what differs by SHA-256, resumable inside files, checked on
arrival.

A file arrives as `.NAME.HASH.part`, where HASH begins the digest of the whole file, so that a part
left by a broken connection is only ever continued with the same content. When the device's own
digest of it is right it is renamed.
"""

import hashlib
import stat as stat_bits
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolkit.device.base import Device
from toolkit.device.errors import DeviceCommandError
from toolkit.device.layout import MARKER, marker_content
from toolkit.device.parsers import FileStat
from toolkit.device.storage import space_remedy
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file

# Left free on the device beyond what is sent: file system bookkeeping, traces, a first checkpoint.
MARGIN_BYTES = 16 << 20


@dataclass(frozen=True)
class LocalFile:
    """A file to send: path relative to its folder, size in bytes, SHA-256."""

    name: str
    path: Path
    size: int
    sha256: str

    @property
    def part_name(self) -> str:
        """The name it has while it is incomplete."""
        folder, _, base = self.name.rpartition("/")
        return f"{folder}{'/' if folder else ''}.{base}.{self.sha256[:16]}.part"


@dataclass
class Report:
    """What a transfer did, in bytes."""

    sent: int = 0
    unchanged: int = 0
    resumed: int = 0
    files: int = 0


Progress = Callable[[str, int, int], None]
"""Called with (file name, bytes done in all, bytes to do in all)."""


def scan(folder: Path, wanted: Callable[[str], bool] | None = None) -> list[LocalFile]:
    """Return the files below `folder` with their digests; symlinks count as what they lead to.

    With `wanted`, only files directly in it whose names it accepts.
    """
    files = []
    for path in sorted(folder.rglob("*") if wanted is None else folder.iterdir()):
        if wanted is not None and not wanted(path.name):
            continue
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in Path(name).parts) or path.is_dir():
            continue
        if not path.is_file():
            raise ToolkitError(f"{path} is not a regular file", "Remove it from the folder")
        files.append(LocalFile(name, path, path.stat().st_size, sha256_file(path)))
    return files


def digest(files: list[LocalFile]) -> str:
    """Return one SHA-256 over names and contents of files."""
    lines = "".join(f"{file.sha256}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def push_folder(
    device: Device,
    files: list[LocalFile],
    target: str,
    *,
    progress: Progress = lambda name, done, total: None,
) -> Report:
    """Make the folder `target` on the device hold exactly `files` and mark it complete.

    Raises ToolkitError when the space does not suffice or a file arrives damaged twice, DeviceLost
    when the connection breaks; in both cases the same call goes on where it stopped.
    """
    device.make_directory(target)
    present = {entry.path: entry for entry in device.list(target, recursive=True)}
    missing = _missing(device, files, target, present)
    total = sum(file.size for file in files)
    report = Report(unchanged=total - sum(file.size for file in missing))
    if missing:
        starts = _partial(device, missing, target, present)
        _check_space(device, missing, starts, target)
        device.remove(f"{target}/{MARKER}")
        _make_folders(device, missing, target)
        for file in missing:
            _send(device, file, target, starts.get(file.name, 0), report, progress, total)
    _remove_foreign(device, files, target, present)
    # Written even if nothing was sent: what was deployed last is what training takes by default.
    device.write(f"{target}/{MARKER}", marker_content(digest(files)))
    progress("", total, total)
    return report


def _missing(
    device: Device, files: list[LocalFile], target: str, present: dict[str, FileStat]
) -> list[LocalFile]:
    """Return the files the device lacks or has with another content."""

    def same_size(file: LocalFile) -> bool:
        entry = present.get(f"{target}/{file.name}")
        return entry is not None and entry.kind == "file" and entry.size == file.size

    there = device.sha256(f"{target}/{file.name}" for file in files if same_size(file))
    return [file for file in files if there.get(f"{target}/{file.name}") != file.sha256]


def _partial(
    device: Device, files: list[LocalFile], target: str, present: dict[str, FileStat]
) -> dict[str, int]:
    """Return how many bytes of each file a broken transfer left, where they are the right ones."""
    parts = {}
    for file in files:
        entry = present.get(f"{target}/{file.part_name}")
        if entry is not None and entry.kind == "file" and 0 < entry.size <= file.size:
            parts[file.name] = entry
    digests = device.sha256(entry.path for entry in parts.values())
    starts = {}
    for file in files:
        entry = parts.get(file.name)
        if entry and digests.get(entry.path) == _prefix_sha256(file.path, entry.size):
            starts[file.name] = entry.size
    return starts


def _prefix_sha256(path: Path, size: int) -> str:
    value = hashlib.sha256()
    with path.open("rb") as source:
        while size and (chunk := source.read(min(1 << 20, size))):
            value.update(chunk)
            size -= len(chunk)
    return value.hexdigest()


def _check_space(
    device: Device, files: list[LocalFile], starts: dict[str, int], target: str
) -> None:
    needed = sum(file.size - starts.get(file.name, 0) for file in files) + MARGIN_BYTES
    free = device.free_bytes()
    if free is not None and free < needed:
        raise ToolkitError(
            f"device {device.spec} has {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB are needed",
            space_remedy(device),
        )


def _make_folders(device: Device, files: list[LocalFile], target: str) -> None:
    for folder in sorted({file.name.rpartition("/")[0] for file in files} - {""}):
        device.make_directory(f"{target}/{folder}")


def _send(
    device: Device,
    file: LocalFile,
    target: str,
    start: int,
    report: Report,
    progress: Progress,
    total: int,
) -> None:
    part = f"{target}/{file.part_name}"
    done = report.unchanged + report.resumed + report.sent
    report.resumed += start
    for attempt_start in (start, 0):
        if attempt_start == 0:
            device.remove(part)
        position = attempt_start

        def advance(count: int) -> None:
            nonlocal position
            position += count
            report.sent += count
            progress(file.name, done + position, total)

        with file.path.open("rb") as source:
            source.seek(attempt_start)
            device.append(part, source, file.size - attempt_start, advance)
        if device.sha256([part]).get(part) == file.sha256:
            break
        device.remove(part)
        report.sent -= position - attempt_start
        report.resumed -= start if attempt_start else 0
    else:
        raise DeviceCommandError(
            f"{file.name} arrived damaged on device {device.spec} twice",
            "Check that the file does not change while it is sent, and the cable",
        )
    if stat_bits.S_IMODE(file.path.stat().st_mode) & stat_bits.S_IXUSR:
        device.make_executable(part)
    device.rename(part, f"{target}/{file.name}")
    report.files += 1


def _remove_foreign(
    device: Device, files: list[LocalFile], target: str, present: dict[str, FileStat]
) -> None:
    """Remove what an earlier version of the folder left, parts included."""
    wanted = {f"{target}/{file.name}" for file in files} | {f"{target}/{MARKER}"}
    for path, entry in present.items():
        if entry.kind != "directory" and path not in wanted:
            device.remove(path)
