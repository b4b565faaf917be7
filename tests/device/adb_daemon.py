"""A real Android debug daemon and adb server, for a process alone in its network namespace."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from toolkit.device.adb_server import ServerPhone, server_phones

ADDRESS = "127.0.0.1:5555"
_FOLDER = Path(__file__).resolve().parents[2] / ".cache/adbd"
_PROGRAM = _FOLDER / "usr/lib/android-sdk/platform-tools/adbd"


def missing() -> str:
    """Return what the tests with a real daemon lack on this machine, or nothing."""
    if not _PROGRAM.is_file():
        return "adbd is not in .cache/adbd (tools/setup_adbd)"
    for program in ("unshare", "ip", "mount", "adb"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    command = [*namespace_command(), "true"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return "this user may not create network namespaces (unshare -n)"
    return ""


def namespace_command() -> list[str]:
    """Return the command prefix for a network and mount namespace of its own."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, "--net", "--mount"]


class Daemon:
    """The daemon, which listens without authentication: only ever inside such a namespace.

    `environment` is added to its own, from the next start on.
    """

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        interfaces = {name for _, name in socket.if_nameindex()}
        assert interfaces == {"lo"}, f"not in a network namespace of its own: {interfaces}"
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the daemon and wait until it listens, and a server knows it if there is one."""
        libraries = _FOLDER / "usr/lib/x86_64-linux-gnu"
        loader = str(_FOLDER / "usr/lib64/ld-linux-x86-64.so.2")
        path = f"{libraries}:{libraries / 'android'}"
        self._process = subprocess.Popen(
            [loader, "--library-path", path, str(_PROGRAM)],
            env=os.environ | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", 5555), timeout=1).close()
                return _await_server()
            except OSError:
                time.sleep(0.1)
        raise AssertionError("adbd does not listen")

    def kill(self) -> None:
        """Kill the daemon as an unplugged cable would: without a word."""
        self._process.kill()
        self._process.wait()


class Server:
    """Android's own adb server. A daemon that runs when it starts it takes for an emulator."""

    SERIAL = "emulator-5554"

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the server and wait until it listens."""
        self._process = subprocess.Popen(
            ["adb", "-P", "5037", "nodaemon", "server"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            if server_phones() is not None:
                return _await_server()
            time.sleep(0.1)
        raise AssertionError("the adb server does not listen")

    def stop(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait()


def _await_server() -> None:
    """Wait until the server, if there is one, has found the daemon (again)."""
    for _ in range(200):
        phones = server_phones()
        if phones is None or ServerPhone(Server.SERIAL, "device") in phones:
            return
        time.sleep(0.1)
    raise AssertionError(f"the adb server does not find the daemon: {phones}")
