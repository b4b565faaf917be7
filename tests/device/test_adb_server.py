"""What needs no server: where one is looked for, and what its words for a phone's state mean."""

import socket
import threading

import pytest

from toolkit.device import AdbDevice, open_device
from toolkit.device.adb_server import ServerAddress, ServerPhone, server_address, server_phones
from toolkit.errors import ToolkitError


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_PORT", "ANDROID_ADB_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, ("127.0.0.1", 5037)),
        ({"ANDROID_ADB_SERVER_PORT": "6000"}, ("127.0.0.1", 6000)),
        ({"ANDROID_ADB_SERVER_ADDRESS": "10.0.0.2"}, ("10.0.0.2", 5037)),
        ({"ADB_SERVER_SOCKET": "tcp:7000", "ANDROID_ADB_SERVER_PORT": "6"}, ("127.0.0.1", 7000)),
        ({"ADB_SERVER_SOCKET": "tcp:host.docker.internal:7"}, ("host.docker.internal", 7)),
        ({"ADB_SERVER_SOCKET": "tcp:[::1]:7"}, ("::1", 7)),
    ],
)
def test_a_server_is_looked_for_where_adb_does(monkeypatch, variables, address):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert server_address() == ServerAddress(*address)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADB_SERVER_SOCKET", "localfilesystem:/tmp/x"),
        ("ADB_SERVER_SOCKET", "tcp:a:b:c"),
        ("ANDROID_ADB_SERVER_PORT", "five"),
    ],
)
def test_strange_addresses_are_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ToolkitError, match=name):
        server_address()


def test_no_server_is_none(monkeypatch):
    for port in ("1", "99999"):
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", port)
        assert server_phones() is None
    assert isinstance(open_device("R58M123ABC"), AdbDevice)


def test_what_is_no_server_is_said(monkeypatch):
    """Something else listens there: an address still works, a serial says why it does not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            for _ in range(2):  # the look whether anything listens, and the question
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(5)
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(listener.getsockname()[1]))
        with pytest.raises(ToolkitError, match="no adb server answers at 127") as error:
            open_device("R58M123ABC")
        assert "adb kill-server" in error.value.remedy


@pytest.mark.parametrize(
    ("state", "cause", "remedy"),
    [
        ("unauthorized", "has not authorized this computer", "accept the USB debugging dialog"),
        ("offline", "is offline", "adb pair"),
        ("no", "may not be opened by this user", "udev rules"),
        ("recovery", "is in the state 'recovery'", "Start Android"),
    ],
)
def test_states_are_explained(state, cause, remedy):
    refusal = ServerPhone("R58M", state).refusal()
    assert refusal.cause == f"device R58M {cause} (adb server)" and remedy in refusal.remedy
    assert ServerPhone("R58M", "device").refusal() is None
