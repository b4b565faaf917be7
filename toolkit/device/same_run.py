"""Which run a folder holds, so that two are never mixed in one."""

import json
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from toolkit.device.base import Device
from toolkit.device.run_settings import SETTINGS
from toolkit.errors import ToolkitError

TRACE = "trace.jsonl"
_FIRST_LINE = 256 * 1024
# What is made from a run's files here; it is of no worth once they have changed.
_MADE_HERE = ("report.html",)


@dataclass(frozen=True)
class RunIdentity:
    """The random id in a run's settings, where there is one, and the first line of its trace, which
    has the time it began; `name` is the run's on its device.
    """

    name: str
    id: str
    first: bytes

    @property
    def key(self) -> str:
        """A text that no other run has: its id, or for the app's runs one of how it began."""
        return self.id or sha256(self.first).hexdigest()[:16]

    def same(self, other: "RunIdentity") -> bool:
        """Whether both are of the same run."""
        if self.id and other.id:
            return self.id == other.id
        return bool(self.first) and self.first == other.first


def identity_on_device(device: Device, path: str) -> RunIdentity:
    """Return what tells a run on a device from others."""
    settings = device.read(f"{path}/{SETTINGS}")
    return _identity(settings, device.read(f"{path}/{TRACE}", 0, _FIRST_LINE))


def identity_of(folder: Path) -> RunIdentity:
    """Return what tells the run in a folder from others."""
    return _identity(_head(folder / SETTINGS), _head(folder / TRACE))


def check_target(target: Path, run: RunIdentity | None) -> None:
    """Raise unless `target` can become the folder of a run: it is free, or holds the same one.

    Args:
        target: The folder; its parent is made.
        run: The run to come, or None if that is not known yet.

    Raises:
        ToolkitError: Something else is there; it is named.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ToolkitError(f"{target} is not a folder", "Name another folder with -o")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() or not any(target.iterdir()):
        return
    if not (target / TRACE).exists():
        raise ToolkitError(
            f"{target} holds something else than a run (it has no {TRACE})",
            "Name another folder with -o",
        )
    there = identity_of(target)
    if run is not None and not run.same(there):
        which = f"another run, {there.name}" if there.name else "another run"
        raise ToolkitError(
            f"{target} holds {which}" + _begun(there),
            "Name another folder with -o, or move that one away",
        )


def remove_stale(target: Path, known: set[str], new: set[str]) -> None:
    """Remove from the folder of a run what its new files make untrue: earlier ones of `known`
    names that did not come again, and reports.
    """
    for name in (known - new) | {*_MADE_HERE}:
        (target / name).unlink(missing_ok=True)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FIRST_LINE)
    except OSError:
        return b""


def _identity(settings: bytes, trace: bytes) -> RunIdentity:
    first, _, _ = trace.partition(b"\n")
    found = _object(settings)
    return RunIdentity(str(found.get("name", ""))[:64], str(found.get("id", ""))[:64], first)


def _begun(run: RunIdentity) -> str:
    begun = _object(run.first).get("time_unix")
    if isinstance(begun, bool) or not isinstance(begun, int | float) or not 0 < begun < 1e11:
        return ""
    return f", begun {datetime.fromtimestamp(begun):%Y-%m-%d %H:%M:%S}"


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
