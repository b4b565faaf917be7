"""Machines that were measured, kept in the user's cache: a later run there can be told its time."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from toolkit import __version__
from toolkit.device import Device
from toolkit.device.info import DeviceInfo
from toolkit.files import atomic_file, cache_root
from toolkit.planning.scratch import Kernels
from toolkit.planning.settings import Machine
from toolkit.planning.speed import PHASES, Rate, Speed
from toolkit.trace.units import KIB

_KERNELS = {"isa": str, "threads": int, "arithmetic": str}


def remember(device: Device, threads: int, machine: Machine) -> None:
    """Keep what was measured of a device with so many threads, 0 for as many as it chooses."""
    content = {
        "name": machine.name,
        "isa": machine.kernels.isa,
        "threads": machine.kernels.threads,
        "arithmetic": machine.kernels.arithmetic,
        "runtime_bytes": machine.runtime_bytes,
        "rates": {
            name: [rate.products, rate.unpacked] for name, rate in machine.speed.rates.items()
        },
    }
    path = _path(device.info(), threads, machine.kernels.arithmetic)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, "w") as file:
            json.dump(content, file)
    except OSError:
        pass  # A cache that cannot be written costs time, no result.


def recall(device: Device, threads: int, arithmetic: str) -> Machine | None:
    """Return what was measured last of a device, with the memory that is free there now.

    None: it was not measured with so many threads in this arithmetic, or not with this version.
    """
    info = device.info()
    try:
        content = json.loads(_path(info, threads, arithmetic).read_text(encoding="utf-8"))
        return _machine(content, info)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _machine(content: dict[str, Any], info: DeviceInfo) -> Machine:
    free = info.memory_available_kib
    return Machine(
        name=str(content["name"]),
        kernels=Kernels(*(kind(content[name]) for name, kind in _KERNELS.items())),
        runtime_bytes=int(content["runtime_bytes"]),
        available=None if free is None else free * KIB,
        speed=Speed({name: Rate(*map(float, content["rates"][name])) for name in PHASES}),
        measured=True,
    )


def _path(info: DeviceInfo, threads: int, arithmetic: str) -> Path:
    who = [__version__, info.device, info.model, info.abi, info.cores, threads, arithmetic]
    return cache_root() / "machines" / f"{sha256(json.dumps(who).encode()).hexdigest()}.json"
