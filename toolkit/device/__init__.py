"""Devices that train: this machine and Android phones over adb."""

import re
from pathlib import Path

from toolkit.device.adb import AdbDevice, split_address
from toolkit.device.adb_server import ServerDevice, server_phones
from toolkit.device.base import Device
from toolkit.device.errors import DeviceCommandError, DeviceLost
from toolkit.device.info import DeviceInfo
from toolkit.device.local import LocalDevice
from toolkit.errors import ToolkitError

__all__ = ["Device", "DeviceCommandError", "DeviceInfo", "DeviceLost", "open_device"]

_FOLDERS = ("./", "../", "/", "~/")
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def open_device(spec: str) -> Device:
    """Return the device of `spec` ("local", FOLDER, SERIAL, HOST:PORT); `with` connects it.

    A folder (./NAME, ../NAME, /NAME or ~/NAME) is this machine with its own bundles, data and
    runs, as "local" has them in $TOOLKIT_HOME.

    A phone that a running adb server has is reached through it; the server would not let go of it.
    Others are reached directly, over USB or TCP.
    """
    if spec == "local":
        return LocalDevice()
    if spec.startswith(_FOLDERS):
        return LocalDevice(Path(spec).expanduser(), spec)
    if ":" in spec:
        split_address(spec)
    elif not _SERIAL.fullmatch(spec):
        raise ToolkitError(f"{spec!r} is not a device", "Use local, ./FOLDER, SERIAL or HOST:PORT")
    return ServerDevice(spec) if _is_the_servers(spec) else AdbDevice(spec)


def _is_the_servers(spec: str) -> bool:
    """Whether a phone is to be reached through the server: an address only if it has it."""
    try:
        phones = server_phones()
    except ToolkitError:
        if ":" in spec:
            return False
        raise
    return phones is not None and (":" not in spec or spec in {phone.serial for phone in phones})
