"""What the resume state of a run on a device says of itself, from the head of the file alone.

`runtime/engine/training/state.h` has the format.
"""

import struct
from dataclasses import dataclass

from toolkit.device.base import Device
from toolkit.device.layout import run_path
from toolkit.errors import ToolkitError

_HEAD = struct.Struct("<8sII")
_MAGIC = b"TKSTATE\0"
_VERSION = 3
_LIMIT = 64 * 1024


@dataclass(frozen=True)
class SavedState:
    """Steps done, and the step and SHA-256 of the adapter that was taken last, None if none was."""

    step: int
    taken: tuple[int, str] | None


def read_saved_state(device: Device, run: str) -> SavedState | None:
    """Return what a run has saved, None where that is nothing.

    Raises:
        ToolkitError: It is damaged, or of another version.
    """
    content = device.read(f"{run_path(device, run)}/state.bin", limit=_LIMIT)
    if not content:
        return None
    try:
        magic, version, length = _HEAD.unpack_from(content)
        lines = content[_HEAD.size : _HEAD.size + length].decode("utf-8", "replace").split("\n")
        if magic != _MAGIC or version != _VERSION or not lines[0].startswith("step "):
            raise ValueError
        step, taken = int(lines[0].removeprefix("step ")), None
        for line in lines:
            if line.startswith("setting taken "):
                at, sha256 = line.split(" ")[2:]
                taken = int(at), sha256
    except (struct.error, ValueError) as error:
        raise ToolkitError(
            f"state.bin of run {run!r} on device {device.spec} is damaged, or of another version",
            "Remove the run and start again",
        ) from error
    return SavedState(step, taken)
