"""What a device holds of ours, what of it is used by what, and freeing it."""

import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from toolkit.device.base import Device
from toolkit.device.layout import MARKER, Deployed, list_deployed
from toolkit.device.run_settings import stored_settings
from toolkit.device.runs import Run
from toolkit.errors import ToolkitError

KINDS = ("bundles", "data", "runs", "adapters", "runtime", "scratch")
_COMPLETE_WITH_MARKER = ("bundles", "data", "runtime")
_ABANDONED_SECONDS = 3600.0
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass
class Item:
    """One folder or file below our root: `name` is KIND/NAME, `modified` in Unix seconds.

    Attributes:
        used_by: Runs that were started with it, for bundles, data and adapters.
        busy: Why it cannot be removed now, or nothing.
        old: Why nothing needs it any more, or nothing.
    """

    kind: str
    name: str
    path: str = field(repr=False)
    bytes: int = 0
    modified: int = 0
    used_by: list[str] = field(default_factory=list)
    busy: str = ""
    old: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def inventory(device: Device) -> list[Item]:
    """Return everything in the folders of `KINDS`, in that order and by name."""
    items = _collect(device)
    now = max([time.time(), *(item.modified for item in items.values())])
    _note_runs(device, items)
    commands = _commands(device)
    complete = {kind: list_deployed(device, kind) for kind in _COMPLETE_WITH_MARKER}
    for item in items.values():
        if item.kind in ("runtime", "scratch") and item.path.encode() in commands:
            item.busy = "a trainer uses it"
        elif not item.busy:
            item.old = _why_old(item, complete, now)
    return sorted(items.values(), key=lambda item: (KINDS.index(item.kind), item.name))


def _why_old(item: Item, complete: dict[str, list[Deployed]], now: float) -> str:
    """Return why nothing needs an item; what is young may be in the making."""
    sent = complete.get(item.kind, [])
    paths = [deployed.path for deployed in sent]
    if item.kind == "runtime" and item.path in paths[1:]:
        return "a newer one is there"
    if now - item.modified <= _ABANDONED_SECONDS:
        return ""
    if item.kind in complete and item.path not in paths:
        return "not sent completely"
    if item.kind == "scratch":
        return "left by a command that ended"
    return "no run started from it" if item.kind == "adapters" and not item.used_by else ""


def _collect(device: Device) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for entry in device.list(device.root, recursive=True):
        kind, _, rest = entry.path.removeprefix(f"{device.root}/").partition("/")
        name = rest.partition("/")[0]
        if kind not in KINDS or not name or not _SAFE_NAME.fullmatch(name):
            continue
        path = f"{device.root}/{kind}/{name}"
        item = items.setdefault(path, Item(kind, f"{kind}/{name}", path))
        if entry.kind == "file":
            item.bytes += entry.size
        item.modified = max(item.modified, entry.modified)
    return items


def _note_runs(device: Device, items: dict[str, Item]) -> None:
    """Note which runs go on, and who uses what."""
    for item in [item for item in items.values() if item.kind == "runs"]:
        run = item.name.partition("/")[2]
        running = Run(device, run).alive()
        if running:
            item.busy = "it is running"
        settings = stored_settings(device, run)
        used = {
            f"{device.root}/bundles/{settings.get('bundle')}",
            f"{device.root}/data/{settings.get('data')}",
            str(settings.get("adapter")),
        }
        for path in used & items.keys():
            items[path].used_by.append(run)
            if running:
                items[path].busy = f"run {run} uses it"


def _commands(device: Device) -> bytes:
    """Return the command lines and folders of the processes that we may see."""
    look = "cat /proc/[0-9]*/cmdline; for cwd in /proc/[0-9]*/cwd; do readlink $cwd; done"
    return device.shell(f"( {look} ) 2>/dev/null").output


def select(items: Iterable[Item], names: Iterable[str]) -> list[Item]:
    """Return the items of these names, KIND/NAME or a NAME that only one kind has.

    Raises:
        ToolkitError: There is none of a name, or more than one.
    """
    items, chosen = list(items), []
    for name in names:
        found = [item for item in items if name in (item.name, item.name.partition("/")[2])]
        if len(found) != 1:
            several = " and ".join(item.name for item in found)
            raise ToolkitError(
                f"{name!r} is {several}" if found else f"there is no {name!r} on the device",
                "Say which" if found else "`toolkit list` shows what is there",
            )
        chosen += [item for item in found if item not in chosen]
    return chosen


def remove(device: Device, items: Iterable[Item]) -> None:
    """Remove items from a device.

    Raises:
        ToolkitError: One is in use. Nothing is removed then.
    """
    items = list(items)
    for item in items:
        if item.busy:
            raise ToolkitError(
                f"{item.name} on device {device.spec} cannot be removed: {item.busy}",
                "Stop the run first (Ctrl-C in `toolkit train --attach RUN`)",
            )
    for item in items:
        if item.kind in _COMPLETE_WITH_MARKER:  # first: half of it must not pass for whole
            device.remove(f"{item.path}/{MARKER}")
        device.remove(item.path)
