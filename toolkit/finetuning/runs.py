"""Which run a fine-tuning is: one of the same settings, bundle and data, or a new one."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from toolkit.device import Device
from toolkit.device.kept import ADAPTER
from toolkit.device.run_settings import SETTINGS as SETTINGS_FILE
from toolkit.device.run_settings import parse_settings, read_settings
from toolkit.device.runs import Run
from toolkit.device.same_run import TRACE
from toolkit.errors import ToolkitError
from toolkit.finetuning.wish import Wish
from toolkit.safetensors_checksum import is_intact
from toolkit.settings.declaration import Value
from toolkit.settings.training import SETTINGS, TrainSettings

Identity = Mapping[str, Value]
"""What a run follows from: its settings by flag, and the digests of bundle and data."""
_DIGESTS = ("bundle-sha256", "data-sha256")
_COMPARED = (*(known.flag for known in SETTINGS), *_DIGESTS, "adapter")
_TAIL = 1 << 16


class State(Enum):
    """How far a run is."""

    NEW = "new"
    GOING = "going"
    BROKEN_OFF = "broken off"
    COMPLETED = "completed"


@dataclass(frozen=True)
class Found:
    """A run: the number of its name, and how far it is."""

    number: int
    state: State


def identity_of(settings: TrainSettings, bundle: str, data: str) -> Identity:
    """Return what tells a run of these settings from others; bundle and data by their SHA-256."""
    return {**settings.flags(), "bundle-sha256": bundle, "data-sha256": data}


def pulled_run(wish: Wish, identity: Identity) -> Found | None:
    """Return the run if it is here already, completed and whole."""
    for number in itertools.count(1):
        folder = wish.run_folder(number)
        if not folder.exists():
            return None
        settings = _settings_of(folder)
        adapter = folder / ADAPTER
        whole = adapter.is_file() and is_intact(adapter) and _completed(folder / TRACE)
        if whole and _same(settings, identity):
            return Found(number, State.COMPLETED)
    return None


def run_on_device(device: Device, wish: Wish, identity: Identity) -> Found:
    """Return the run on a device, or the first number whose name is free there and here.

    Raises:
        ToolkitError: A run of other settings or data still goes on there.
    """
    for number in itertools.count(1):
        run = Run(device, wish.run_name(number))
        if not run.exists():
            if wish.run_folder(number).exists():  # of a run that is gone there
                continue
            return Found(number, State.NEW)
        alive = run.alive()
        if _same(_stored(device, run.name), identity):
            if alive:
                return Found(number, State.GOING)
            ended = [record for record in run.history(whole=True) if record["type"] == "end"]
            completed = ended and ended[-1].get("status") == "completed"
            return Found(number, State.COMPLETED if completed else State.BROKEN_OFF)
        if alive:
            raise ToolkitError(
                f"run {run.name} on device {device.spec} goes on with other settings or data",
                f"Wait for it, or stop it: toolkit stop {run.where} {run.name}",
            )
    raise AssertionError


def _stored(device: Device, name: str) -> Identity:
    try:
        return read_settings(device, name, _COMPARED)
    except ToolkitError:
        return {}  # whatever it was, it is another run


def _settings_of(folder: Path) -> Identity:
    try:
        return parse_settings((folder / SETTINGS_FILE).read_bytes()) or {}
    except OSError:
        return {}


def _same(found: Identity, wanted: Identity) -> bool:
    return bool(found) and all(found.get(name) == wanted.get(name) for name in _COMPARED)


def _completed(trace: Path) -> bool:
    """Whether a trace ends with a run that was completed."""
    try:
        with trace.open("rb") as file:
            file.seek(max(0, trace.stat().st_size - _TAIL))
            last = json.loads(file.read().rstrip(b"\n").rpartition(b"\n")[2])
    except (OSError, ValueError):
        return False
    return isinstance(last, dict) and (last.get("type"), last.get("status")) == ("end", "completed")
