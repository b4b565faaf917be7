"""Failures of a device that a command may want to tell apart."""

from toolkit.errors import ToolkitError


class DeviceLost(ToolkitError):
    """The connection broke or the device stopped answering; running the same command again
    continues.
    """

    def __init__(self, device: str, reason: str) -> None:
        super().__init__(
            f"the connection to device {device} was lost ({reason})",
            "Reconnect it and run the same command again: it continues where it stopped",
        )


class DeviceCommandError(ToolkitError):
    """A shell command failed on the device."""
