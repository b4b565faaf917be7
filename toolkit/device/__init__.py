"""Devices that train: this machine and Android phones over adb."""

import re

from toolkit.device.adb import AdbDevice, split_address
from toolkit.device.base import Device
from toolkit.device.errors import DeviceCommandError, DeviceLost
from toolkit.device.info import DeviceInfo
from toolkit.device.local import LocalDevice
from toolkit.errors import ToolkitError

__all__ = ["Device", "DeviceCommandError", "DeviceInfo", "DeviceLost", "open_device"]

_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def open_device(spec: str) -> Device:
    """Return the device of `spec` ("local", a USB SERIAL, HOST:PORT); `with` connects it."""
    if spec == "local":
        return LocalDevice()
    if ":" in spec:
        split_address(spec)
    elif not _SERIAL.fullmatch(spec):
        raise ToolkitError(f"{spec!r} is not a device", "Use local, SERIAL or HOST:PORT")
    return AdbDevice(spec)
