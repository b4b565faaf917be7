"""Where things are on a device, and the names they may have.

    ROOT/runtime/{abi}-{hash}/   trainer and its libraries
    ROOT/bundles/NAME/  ROOT/data/NAME/  ROOT/runs/NAME/

Bundles and data carry `.deployed.json`, written last: a folder without it was not sent completely.
"""

import json
import re
import time
from dataclasses import dataclass

from toolkit.device.base import Device
from toolkit.errors import ToolkitError

MARKER = ".deployed.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MARKER_LIMIT = 1 << 20


def check_name(name: str, what: str) -> str:
    """Return `name` if it may name a folder on a device, else raise."""
    if not _NAME.fullmatch(name) or name.endswith((".new", ".part")):
        raise ToolkitError(
            f"{name!r} cannot name a {what}",
            "Use up to 64 letters, digits, dots, dashes, underscores; begin with letter or digit",
        )
    return name


def bundle_path(device: Device, name: str) -> str:
    """Return the folder of a bundle on the device."""
    return f"{device.root}/bundles/{check_name(name, 'bundle')}"


def data_path(device: Device, name: str) -> str:
    """Return the folder of a data set on the device."""
    return f"{device.root}/data/{check_name(name, 'data set')}"


def run_path(device: Device, name: str) -> str:
    """Return the folder of a run on the device."""
    return f"{device.root}/runs/{check_name(name, 'run')}"


@dataclass(frozen=True)
class Deployed:
    """A complete bundle or data set on a device; `time` is when it was sent, in Unix seconds."""

    name: str
    path: str
    time: float
    sha256: str


def marker_content(sha256: str) -> bytes:
    """Return the marker of a folder whose content has this digest."""
    return json.dumps({"version": 1, "sha256": sha256, "time": time.time()}).encode()


def read_marker(device: Device, path: str) -> Deployed | None:
    """Return what was sent to `path`, or None if nothing was sent there completely."""
    try:
        content = json.loads(device.read(f"{path}/{MARKER}", limit=_MARKER_LIMIT))
        name = path.rsplit("/", 1)[-1]
        return Deployed(name, path, float(content["time"]), str(content["sha256"]))
    except (ValueError, KeyError, TypeError):
        return None


def list_deployed(device: Device, kind: str) -> list[Deployed]:
    """Return the complete folders of `kind` ("bundles" or "data"), the last one sent first."""
    entries = device.list(f"{device.root}/{kind}")
    names = [
        entry for entry in entries if entry.kind == "directory" and _NAME.fullmatch(entry.name)
    ]
    found = (read_marker(device, entry.path) for entry in names[:1000])
    return sorted((item for item in found if item), key=lambda item: -item.time)


def choose(device: Device, kind: str, name: str | None) -> Deployed:
    """Return the folder of `kind` called `name`, or the last one sent."""
    deployed = list_deployed(device, kind)
    what = {"bundles": "bundle", "data": "data set"}[kind]
    if name is None and deployed:
        return deployed[0]
    for item in deployed:
        if item.name == name:
            return item
    known = ", ".join(item.name for item in deployed) or "none"
    missing = f"no {what} {name!r} is" if name else f"no {what} is"
    raise ToolkitError(
        f"{missing} complete on device {device.spec} (there: {known})",
        f"Run `toolkit deploy BUNDLE --data DATA --device {device.spec}`",
    )
