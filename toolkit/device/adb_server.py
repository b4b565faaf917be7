"""Phones that a running adb server has (Android Studio, `adb` itself), by the adbutils package.

A server holds every phone on USB, the emulators, and those paired or connected over Wi-Fi, so
while one runs it is the way to them. None is ever started here.
"""

import os
import re
import selectors
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from toolkit.device.adb import PAIRING, adb_root
from toolkit.device.base import CHUNK, ShellDevice
from toolkit.device.errors import DeviceLost
from toolkit.device.shell import WrappedCommand
from toolkit.errors import ToolkitError

DEFAULT_PORT = 5037
_CONNECT_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_LONGEST_LINE = 0xFFFF - len("exec:")


@dataclass(frozen=True)
class ServerAddress:
    """Where an adb server listens."""

    host: str
    port: int


@dataclass(frozen=True)
class ServerPhone:
    """A phone that a server knows: its serial, and the server's word for its state."""

    serial: str
    state: str

    def refusal(self) -> ToolkitError | None:
        """Return why it cannot be used, with the remedy, or None if it can."""
        if self.state == "device":
            return None
        reasons = {
            "unauthorized": (
                "has not authorized this computer",
                "Unlock the phone and accept the USB debugging dialog",
            ),
            "authorizing": ("is being authorized", "Unlock the phone and wait a moment"),
            "connecting": ("is being connected", "Wait a moment and try again"),
            "offline": (
                "is offline",
                "Unlock it, reconnect the cable or `adb reconnect`; a phone on Wi-Fi whose pairing "
                "was forgotten needs `adb pair` again",
            ),
            "no": (
                "may not be opened by this user",
                "Install the udev rules (`apt-get install android-sdk-platform-tools-common`), "
                "join the group plugdev, plug it in again and run `adb kill-server`",
            ),
        }
        what, remedy = reasons.get(
            self.state, (f"is in the state {self.state[:20]!r}", "Start Android on it")
        )
        return ToolkitError(f"device {self.serial} {what} (adb server)", remedy)


def server_address() -> ServerAddress:
    """Return where a server listens if one runs, as Android's own tools look for it:
    $ADB_SERVER_SOCKET (tcp:HOST:PORT), else $ANDROID_ADB_SERVER_ADDRESS and
    $ANDROID_ADB_SERVER_PORT, else 127.0.0.1:5037.
    """
    given = os.environ.get("ADB_SERVER_SOCKET", "")
    if given:
        match = re.fullmatch(r"tcp:(?:(?P<host>[^:]+|\[[^\]]+\]):)?(?P<port>\d{1,5})", given)
        if match is None:
            raise ToolkitError(
                f"ADB_SERVER_SOCKET={given[:80]!r} is not tcp:HOST:PORT", "Unset it or name that"
            )
        return ServerAddress((match["host"] or "127.0.0.1").strip("[]"), int(match["port"]))
    port = os.environ.get("ANDROID_ADB_SERVER_PORT") or str(DEFAULT_PORT)
    if not port.isdecimal():
        raise ToolkitError(f"ANDROID_ADB_SERVER_PORT={port[:20]!r} is no port", "Unset it")
    return ServerAddress(os.environ.get("ANDROID_ADB_SERVER_ADDRESS", "127.0.0.1"), int(port))


def server_runs(address: ServerAddress) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((address.host, address.port), _CONNECT_SECONDS).close()
    except (OSError, OverflowError):
        return False
    return True


def server_phones() -> list[ServerPhone] | None:
    """Return the phones that the running server knows, or None if no server runs.

    Raises:
        ToolkitError: Something listens at the server's address that is none.
    """
    address = server_address()
    if not server_runs(address):
        return None
    from adbutils import AdbError

    try:
        return [ServerPhone(info.serial, info.state) for info in _client(address).list()]
    except (AdbError, OSError, EOFError, ValueError) as error:
        raise ToolkitError(
            f"no adb server answers at {address.host}:{address.port} ({str(error)[:100]})",
            "Restart it with `adb kill-server` and `adb start-server`, or stop what listens there",
        ) from error


def _client(address: ServerAddress) -> Any:
    from adbutils import AdbClient

    return AdbClient(address.host, address.port, socket_timeout=_ANSWER_SECONDS)


class ServerDevice(ShellDevice):
    """A phone or emulator by the serial that `adb devices` shows."""

    def __init__(self, serial: str, root: str | None = None) -> None:
        self.spec = serial
        self.kind = "adb"
        self.root = (root or adb_root()).rstrip("/")
        self._address: ServerAddress | None = None

    def connect(self) -> None:
        """See that the server has the phone, and that it may be used.

        Raises:
            ToolkitError: It is not there, or in a state that its owner has to change.
        """
        address, phones = server_address(), server_phones() or []
        for phone in phones:
            if phone.serial == self.spec:
                if (refusal := phone.refusal()) is not None:
                    raise refusal
                self._address = address
                return
        known = ", ".join(phone.serial for phone in phones) or "none"
        raise ToolkitError(
            f"no device {self.spec} (the adb server knows: {known})",
            f"Check the cable and that debugging is on. {PAIRING}",
        )

    def close(self) -> None:
        """Nothing is held: every command has a connection of its own."""
        self._address = None

    def _exchange(
        self, command: WrappedCommand, source: Iterator[bytes] | None, timeout: float
    ) -> Iterator[bytes]:
        from adbutils import AdbError

        if self._address is None:
            raise DeviceLost(self.spec, "not connected")
        # adbutils would start a server of its own where none runs any more.
        if not server_runs(self._address):
            raise DeviceLost(self.spec, "the adb server has ended")
        # As over a direct connection: the shell stays until the marker was seen, since a daemon may
        # lose output that nobody has read when its command ends.
        line = f"{command.line}; cat >/dev/null"
        if len(line.encode()) > _LONGEST_LINE:
            raise ValueError("the command is too long for an adb server")
        try:
            with _client(self._address).device(self.spec).open_transport() as connection:
                connection.send_command(f"exec:{line}")
                connection.check_okay()
                yield from self._converse(connection.conn, command, source, timeout)
        except AdbError as error:
            raise DeviceLost(self.spec, str(error)[:120]) from error
        except OSError as error:
            raise DeviceLost(self.spec, (error.strerror or str(error)).lower()) from error

    def _converse(
        self,
        connection: socket.socket,
        command: WrappedCommand,
        source: Iterator[bytes] | None,
        timeout: float,
    ) -> Iterator[bytes]:
        """Send `source` and yield output, whichever goes, until the command has ended."""
        connection.setblocking(False)
        pending, tail = memoryview(b""), b""
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            while True:
                if not pending and source is not None:
                    pending = memoryview(next(source, b""))
                    source = source if pending else None
                writes = selectors.EVENT_WRITE if pending else 0
                selector.modify(connection, selectors.EVENT_READ | writes)
                ready = selector.select(timeout)
                if not ready:
                    raise DeviceLost(self.spec, f"no answer for {timeout:.0f} s")
                if ready[0][1] & selectors.EVENT_READ:
                    data = connection.recv(CHUNK)
                    if not data:
                        return
                    yield data
                    tail = (tail + data)[-64:]
                    if command.ended(tail):
                        return
                elif pending:
                    pending = pending[connection.send(pending) :]
