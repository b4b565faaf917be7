"""How connecting fails, against a few lines that speak the protocol's first packets."""

import socket
import struct
import threading
from contextlib import suppress

import pytest

from toolkit.device import adb, open_device
from toolkit.device.adb_transport import UsbPhone
from toolkit.errors import ToolkitError


def packet(command: bytes, first: int, second: int, data: bytes) -> bytes:
    """Return a protocol message: six little-endian words, then the data."""
    word = int.from_bytes(command, "little")
    header = struct.pack("<6I", word, first, second, len(data), sum(data), word ^ 0xFFFFFFFF)
    return header + data


AUTH = packet(b"AUTH", 1, 0, b"\x55" * 20)
STLS = packet(b"STLS", 0x01000000, 0, b"")


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Return a function that answers every message with the same packet and names its address."""
    monkeypatch.setenv("ANDROID_USER_HOME", str(tmp_path))
    monkeypatch.setattr(adb, "_AUTH_TIMEOUT", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(reply: bytes) -> None:
        connection, _ = listener.accept()
        # One that gives up may leave with what it was sent unread, which resets the connection.
        with suppress(ConnectionError), connection, connection.makefile("rb") as stream:
            for _ in range(2 if reply == AUTH else 1):
                _, _, _, length, _, _ = struct.unpack("<6I", stream.read(24))
                stream.read(length)
                connection.sendall(reply)
            stream.read()  # a phone that waits for its owner

    def start(reply: bytes) -> str:
        threading.Thread(target=answer, args=(reply,), daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    listener.close()


def refusal(spec: str) -> ToolkitError:
    with pytest.raises(ToolkitError) as caught:
        open_device(spec).connect()
    return caught.value


def test_an_unaccepted_key_asks_for_the_dialog(serve):
    error = refusal(serve(AUTH))
    assert "has not authorized this computer" in error.cause
    assert "accept the USB debugging dialog" in error.remedy


def test_wireless_debugging_with_pairing_is_explained(serve):
    error = refusal(serve(STLS))
    assert "speaks another protocol" in error.cause and "adb pair" in error.remedy


def test_something_else_that_listens(serve):
    error = refusal(serve(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert "speaks another protocol" in error.cause


def test_usb_without_permission_and_without_the_phone(monkeypatch):
    monkeypatch.setattr(adb, "find_usb_transport", lambda serial: None)
    monkeypatch.setattr(adb, "find_usb_phones", lambda: [UsbPhone(None, "LIBUSB_ERROR_ACCESS")])
    assert "no permission" in refusal("SERIAL1").cause
    monkeypatch.setattr(adb, "find_usb_phones", lambda: [UsbPhone("SERIAL2")])
    assert "no device with serial SERIAL1 on USB (found: SERIAL2)" in refusal("SERIAL1").cause


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (Exception("LIBUSB_ERROR_ACCESS [-3]"), "no permission"),
        (Exception("LIBUSB_ERROR_BUSY [-6]"), "in use by another program"),
        (ConnectionRefusedError(111, "Connection refused"), "refused the connection"),
        (OSError(113, "No route to host"), "is offline (no route to host)"),
        (TimeoutError("timed out"), "is offline (timed out)"),
    ],
)
def test_causes_have_their_remedies(failure, cause):
    error = adb.AdbDevice("SERIAL1")._refusal(failure)
    assert cause in error.cause and error.remedy


def test_addresses():
    assert adb.split_address("phone:5556") == ("phone", 5556)
    assert adb.split_address("phone:") == ("phone", 5555)
    assert adb.split_address("[fe80::1]:5555") == ("fe80::1", 5555)
