"""Bytes to and from an Android debug daemon over TCP, and finding the phones on USB."""

import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from adb_shell.exceptions import TcpTimeoutException
from adb_shell.transport.base_transport import BaseTransport


class ConnectionClosed(OSError):
    """The other side closed the connection."""


class SocketTransport(BaseTransport):
    """A TCP transport that sends everything and notices a closed connection at once.

    adb-shell 0.4.4's own sends once on a non-blocking socket, which cuts messages larger than the
    socket's buffer, and reads a closed connection again and again until its time is up.
    """

    def __init__(self, host: str, port: int, connect_timeout: float = 5.0) -> None:
        self._address = (host, port)
        self._connect_timeout = connect_timeout
        self._socket: socket.socket | None = None

    def connect(self, transport_timeout_s: float | None) -> None:
        """Open the connection."""
        self._socket = socket.create_connection(self._address, timeout=self._connect_timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """Return at least one and at most `numbytes` bytes."""
        connection = self._open_socket()
        ready, _, _ = select.select([connection], [], [], transport_timeout_s)
        if not ready:
            raise TcpTimeoutException(f"no answer for {transport_timeout_s} s")
        data = connection.recv(numbytes)
        if not data:
            raise ConnectionClosed("connection closed by the device")
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        """Send all of `data`."""
        connection = self._open_socket()
        view = memoryview(data)
        deadline = None if transport_timeout_s is None else time.monotonic() + transport_timeout_s
        while view:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            _, ready, _ = select.select([], [connection], [], left)
            if not ready:
                raise TcpTimeoutException(f"nothing taken for {transport_timeout_s} s")
            view = view[connection.send(view) :]
        return len(data)

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionClosed("not connected")
        return self._socket


@dataclass(frozen=True)
class UsbPhone:
    """A phone on USB: its serial, or None and the reason it cannot be read."""

    serial: str | None
    reason: str = ""


def find_usb_phones() -> list[UsbPhone]:
    """List the phones on USB with debugging on; those without permission come with the reason."""
    phones = []
    for transport in _usb_transports():
        try:
            phones.append(UsbPhone(transport.serial_number))
        except Exception as error:
            phones.append(UsbPhone(None, str(error)))
    return phones


def find_usb_transport(serial: str) -> BaseTransport | None:
    """Return the transport of the phone with this serial, or None if there is none."""
    for transport in _usb_transports():
        try:
            if transport.serial_number == serial:
                return transport
        except Exception:  # another phone, which we may not open; ours may still come
            continue
    return None


def _usb_transports() -> Iterable[Any]:
    """Find them with adb-shell; none where libusb or a USB bus is missing (containers)."""
    try:
        from adb_shell.transport.usb_transport import UsbTransport
    except Exception:
        return []
    found: Iterable[Any] = UsbTransport.find_all_adb_devices()
    return found
