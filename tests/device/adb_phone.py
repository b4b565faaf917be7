"""The phone of the cases against a real daemon, and what they share."""

import os
import subprocess
import sys
from pathlib import Path

from tests.device.adb_daemon import ADDRESS, Server
from toolkit.device import open_device
from toolkit.device.adb import AdbDevice
from toolkit.device.adb_server import ServerDevice
from toolkit.errors import ToolkitError

MEGABYTE = 1 << 20


THROUGH_SERVER = os.environ.get("TOOLKIT_TEST_ADB_SERVER") == "1"
SPEC = Server.SERIAL if THROUGH_SERVER else ADDRESS
"""The phone of the cases: reached through an adb server, or directly."""


def phone(root: str) -> AdbDevice | ServerDevice:
    """Return the phone, its root changed."""
    os.environ["TOOLKIT_DEVICE_ROOT"] = root
    device = open_device(SPEC)
    assert isinstance(device, ServerDevice if THROUGH_SERVER else AdbDevice)
    return device


def nothing(_count: int) -> None:
    pass


def refused(function, *arguments, **options) -> ToolkitError:
    """Return the error a call must raise."""
    try:
        function(*arguments, **options)
    except ToolkitError as error:
        return error
    raise AssertionError(f"{function} did not fail")


def make_folder(path: Path, megabytes: int) -> Path:
    path.mkdir()
    (path / "base.ptd").write_bytes(os.urandom(megabytes * MEGABYTE))
    (path / "it's a name").write_bytes(b"small")
    return path


def same_content(left: Path, right: Path) -> bool:
    names = [path.name for path in left.iterdir()]
    return all((left / name).read_bytes() == (right / name).read_bytes() for name in names)


def mount_small(folder: Path) -> None:
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=True)


def toolkit(*words: str, code: int = 0, errors: bool = False) -> str:
    """Run a command as a process; return its output, or its errors if wanted or if it must fail."""
    command = [sys.executable, "-m", "toolkit.cli.main", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == code, (words, result)
    return result.stdout if code == 0 and not errors else result.stderr
