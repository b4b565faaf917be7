"""A phone over the Android debug bridge without a server, TCP or USB, by the adb-shell package.

Commands travel through the daemon's `exec:` service: raw bytes both ways, so that a file's content
can be a command's standard input. adb-shell has no public call for that; `_exchange` uses its
stream internals (0.4.4, pinned).
"""

import os
import time
from collections.abc import Iterator
from typing import Any

from adb_shell import constants
from adb_shell.adb_device import AdbDevice as Connection
from adb_shell.adb_message import AdbMessage
from adb_shell.exceptions import (
    AdbTimeoutError,
    DeviceAuthError,
    InvalidCommandError,
    TcpTimeoutException,
    UsbReadFailedError,
    UsbWriteFailedError,
)
from adb_shell.transport.base_transport import BaseTransport

from toolkit.device.adb_keys import load_signer
from toolkit.device.adb_transport import SocketTransport, find_usb_phones, find_usb_transport
from toolkit.device.base import ShellDevice
from toolkit.device.errors import DeviceLost
from toolkit.device.shell import WrappedCommand
from toolkit.errors import ToolkitError

DEFAULT_PORT = 5555
_AUTH_TIMEOUT = 30.0
_OPEN_TIMEOUT = 10.0
_ATTEMPTS, _PAUSE = 3, 0.5

PAIRING = (
    "For wireless debugging pair it once with `adb pair HOST:PORT` (the code is shown on the phone "
    "under Developer options, Wireless debugging) and `adb connect HOST:PORT`; then use the name "
    "that `adb devices` gives it"
)


def adb_root() -> str:
    """Return our folder on phones ($TOOLKIT_DEVICE_ROOT changes it)."""
    return os.environ.get("TOOLKIT_DEVICE_ROOT", "/data/local/tmp/toolkit")


class AdbDevice(ShellDevice):
    """A phone no adb server has, addressed by HOST:PORT or by the serial it has on USB."""

    def __init__(self, spec: str, root: str | None = None) -> None:
        self.spec = spec
        self.kind = "adb"
        self.root = (root or adb_root()).rstrip("/")
        self.exclusive = ":" not in spec  # whoever opens a phone on USB has it alone
        self._connection: Connection | None = None
        self._asked_for_permission = False

    def connect(self) -> None:
        """Connect and authenticate; the phone may ask its owner to accept this computer's key."""
        for attempt in range(_ATTEMPTS):
            try:
                return self._connect_once()
            except ConnectionResetError as error:
                # A daemon that is still busy with the connection before this one hangs up.
                if attempt + 1 == _ATTEMPTS:
                    raise self._refusal(error) from error
                time.sleep(_PAUSE)

    def _connect_once(self) -> None:
        connection = Connection(self._transport(), default_transport_timeout_s=_OPEN_TIMEOUT)
        self._asked_for_permission = False
        try:
            connection.connect(
                rsa_keys=[load_signer()],
                auth_timeout_s=_AUTH_TIMEOUT,
                read_timeout_s=_AUTH_TIMEOUT,
                auth_callback=self._permission_asked,
            )
        except ConnectionResetError:
            connection.close()
            raise
        except Exception as error:
            connection.close()
            raise self._refusal(error) from error
        self._connection = connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _transport(self) -> BaseTransport:
        if ":" in self.spec:
            host, port = split_address(self.spec)
            return SocketTransport(host, port)
        transport = find_usb_transport(self.spec)
        if transport is not None:
            return transport
        phones = find_usb_phones()
        if any(phone.serial is None for phone in phones):
            raise no_usb_permission()
        known = ", ".join(phone.serial for phone in phones if phone.serial) or "none"
        raise ToolkitError(
            f"no device with serial {self.spec} on USB (found: {known})",
            "Check the cable and turn on USB debugging in the phone's developer options, or start "
            "an adb server (`adb start-server`) for emulators and paired phones, or name HOST:PORT",
        )

    def _permission_asked(self, _: Any) -> None:
        self._asked_for_permission = True

    def _refusal(self, error: Exception) -> ToolkitError:
        name = self.spec
        if isinstance(error, ToolkitError):
            return error
        if self._asked_for_permission or isinstance(error, DeviceAuthError):
            return ToolkitError(
                f"device {name} has not authorized this computer",
                "Unlock the phone, accept the USB debugging dialog and try again",
            )
        if isinstance(error, ConnectionRefusedError):
            return ToolkitError(
                f"device {name} refused the connection",
                "Check address and port; on the phone run `adb tcpip 5555` over USB once",
            )
        if isinstance(error, InvalidCommandError):
            return ToolkitError(
                f"device {name} speaks another protocol (as wireless debugging with pairing does)",
                f"{PAIRING}. Or connect it by USB",
            )
        if "LIBUSB_ERROR_ACCESS" in str(error):
            return no_usb_permission()
        if "LIBUSB_ERROR_BUSY" in str(error):
            return ToolkitError(
                f"device {name} is in use by another program",
                "If an adb server on another port has it, name that in ANDROID_ADB_SERVER_PORT; "
                "else stop the program that uses it",
            )
        return ToolkitError(
            f"device {name} is offline ({describe(error)})",
            "Unlock it, reconnect the cable or the network, and check that debugging is on",
        )

    def _exchange(
        self, command: WrappedCommand, source: Iterator[bytes] | None, timeout: float
    ) -> Iterator[bytes]:
        if self._connection is None:
            raise DeviceLost(self.spec, "not connected")
        try:
            yield from _exchange(self._connection, command, source, timeout)
        except (OSError, *_LOST) as error:
            self.close()
            raise DeviceLost(self.spec, describe(error)) from error


_LOST = (
    AdbTimeoutError,
    TcpTimeoutException,
    UsbReadFailedError,
    UsbWriteFailedError,
    InvalidCommandError,
)


def _exchange(
    connection: Connection,
    command: WrappedCommand,
    source: Iterator[bytes] | None,
    timeout: float,
) -> Iterator[bytes]:
    """Run a command through `exec:`; every packet we send is acknowledged before the next.

    adbd 34 may lose the last output of a command that has gone while earlier output waits to be
    acknowledged. So its shell stays, reading, until we have seen the marker and close the stream.
    """
    line = f"{command.line}; cat >/dev/null"
    info = connection._open(b"exec:" + line.encode(), timeout, timeout, None)
    io = connection._io_manager
    ended = False
    tail = b""
    try:
        for data in source or ():
            for begin in range(0, len(data), connection.max_chunk_size):
                piece = data[begin : begin + connection.max_chunk_size]
                io.send(AdbMessage(constants.WRTE, info.local_id, info.remote_id, piece), info)
                while True:
                    kinds = [constants.OKAY, constants.WRTE, constants.CLSE]
                    kind, _, _, answer = io.read(kinds, info, allow_zeros=True)
                    if kind == constants.CLSE:
                        ended = True
                        return
                    if kind == constants.OKAY:
                        break
                    connection._okay(info)
                    yield answer
                    tail = (tail + answer)[-64:]
            if command.ended(tail):
                return  # without reading everything
        while not command.ended(tail):
            kind, _, _, answer = io.read([constants.WRTE, constants.CLSE], info, allow_zeros=True)
            if kind == constants.CLSE:
                ended = True
                return
            connection._okay(info)
            yield answer
            tail = (tail + answer)[-64:]
    finally:
        if ended:
            io.send(AdbMessage(constants.CLSE, info.local_id, info.remote_id), info)
        else:
            _abandon(connection, info)


def _abandon(connection: Connection, info: Any) -> None:
    """Tell the device that nobody reads this stream any more; the connection may be gone."""
    try:
        connection._clse(info)
    except Exception:
        connection.close()


def split_address(spec: str) -> tuple[str, int]:
    """Split HOST:PORT, HOST: (port 5555) and [IPv6]:PORT."""
    host, _, port = spec.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise ToolkitError(f"{spec!r} is not a device address", "Use local, SERIAL or HOST:PORT")
    return host, int(port) if port else DEFAULT_PORT


def no_usb_permission() -> ToolkitError:
    """Return the error for a phone on USB that this user may not open."""
    return ToolkitError(
        "no permission to open a phone on USB",
        "Install the udev rules (`apt-get install android-sdk-platform-tools-common`), "
        "join the group plugdev, and plug the phone in again",
    )


def describe(error: Exception) -> str:
    """Return an exception as a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:120]
