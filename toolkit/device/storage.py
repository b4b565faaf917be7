"""What to say when a device has no space left."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.device.base import Device

_NOTHING = 1 << 20


def space_remedy(device: "Device") -> str:
    """Return how to free space on a device."""
    where = f"--device {device.spec}"
    return f"`toolkit list {where}` shows what is there, `toolkit remove {where}` frees it"


def full_storage(device: "Device") -> str:
    """Return that the device's storage is full, with the remedy, or nothing if it is not."""
    free = device.free_bytes()
    if free is None or free >= _NOTHING:
        return ""
    return (
        f"the storage of device {device.spec} is full ({free / 1e3:.0f} kB free for {device.root})"
        f". {space_remedy(device)}"
    )
