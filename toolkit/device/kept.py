"""What a run keeps by its steps, beside the last adapter: `best/step-K`, the best on held-out data
so far, `checkpoints/step-K`, those of its last saves, and `split/computer-K.pt`, what a computer
knows of the layers that it computes.
"""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from toolkit.device.base import Device
from toolkit.errors import ToolkitError

ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
BEST, CHECKPOINTS, SPLIT = "best", "checkpoints", "split"
MOST_BYTES = 4 << 30
_MOST = 1000
_STEP = r"(0|[1-9]\d{0,15})"
_PATH = re.compile(rf"step-{_STEP}/{re.escape(ADAPTER)}")
_COMPUTER = re.compile(rf"computer-{_STEP}\.pt")
_COMPUTER_BYTES = 16 << 30


@dataclass(frozen=True)
class Kept:
    """One of them: its path below the run's folder, there and here, its step and size in bytes."""

    path: str
    step: int
    size: int


def find_kept(device: Device, run: str, folder: str) -> list[Kept]:
    """Return what a run keeps in one of its folders, the lowest step first.

    Args:
        run: Path of the run on the device.

    Raises:
        ToolkitError: One is larger than an adapter can be.
    """
    return _find(device, run, folder, _PATH, MOST_BYTES)


def computer_state(step: int) -> str:
    """Return the name of what a computer knew after a step of a split run."""
    return f"computer-{step}.pt"


def find_computer_states(device: Device, run: str) -> list[Kept]:
    """Return what computers left in the folder of a split run, as `find_kept` does."""
    return _find(device, run, SPLIT, _COMPUTER, _COMPUTER_BYTES)


def _find(device: Device, run: str, folder: str, pattern: re.Pattern[str], most: int) -> list[Kept]:
    found = []
    for entry in device.list(f"{run}/{folder}", recursive=True):
        inside = entry.path.removeprefix(f"{run}/{folder}/")
        match = pattern.fullmatch(inside)
        if match is None or entry.kind != "file":
            continue
        if entry.size > most:
            raise ToolkitError(
                f"{folder}/{inside} of the run has {entry.size} bytes on device {device.spec}, "
                f"more than the {most} it can have",
                "Nothing was copied; look at the device with `adb shell`",
            )
        found.append(Kept(f"{folder}/{inside}", int(match[1]), entry.size))
    return sorted(found, key=lambda kept: kept.step)[-_MOST:]


def make_parents(folder: Path, name: str) -> None:
    """Make the folders that a path below `folder` needs.

    Raises:
        ToolkitError: One of them leads elsewhere.
    """
    for parent in reversed((folder / name).relative_to(folder).parents[:-1]):
        if (folder / parent).is_symlink():
            raise ToolkitError(f"{folder / parent} is a symbolic link", "Remove it")
        (folder / parent).mkdir(exist_ok=True)


def complete_checkpoints(folder: Path, names: Iterable[str]) -> list[str]:
    """Give the checkpoints among `names` in a run's folder the adapter's configuration, which
    `peft` needs, and return the names of what was written.
    """
    if not (folder / CONFIG).is_file():
        return []
    wanted = [name for name in names if name.startswith(f"{CHECKPOINTS}/")]
    configs = [Path(name).with_name(CONFIG).as_posix() for name in wanted]
    for config in configs:
        shutil.copyfile(folder / CONFIG, folder / config)
    return configs


def remove_old(folder: Path, new: set[str]) -> None:
    """Remove checkpoints and computers' states of a run that are not among `new` paths below it."""
    _remove_old_checkpoints(folder, new)
    top = folder / SPLIT
    if not top.is_dir() or top.is_symlink():
        return
    for path in list(top.iterdir()):
        if _COMPUTER.fullmatch(path.name) and f"{SPLIT}/{path.name}" not in new:
            path.unlink()
    if not any(top.iterdir()):
        top.rmdir()


def _remove_old_checkpoints(folder: Path, new: set[str]) -> None:
    top = folder / CHECKPOINTS
    if not top.is_dir() or top.is_symlink():
        return
    for step in (path for path in top.glob("step-*") if path.is_dir() and not path.is_symlink()):
        for name in (ADAPTER, CONFIG):
            if f"{CHECKPOINTS}/{step.name}/{name}" not in new:
                (step / name).unlink(missing_ok=True)
        if not any(step.iterdir()):
            step.rmdir()
    if not any(top.iterdir()):
        top.rmdir()
