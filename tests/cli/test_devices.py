"""`toolkit devices` and `toolkit runtime list` as processes."""

import json
import os
import subprocess
import sys

from toolkit.device.adb_transport import UsbPhone


def toolkit(*words, code=0, **environment):
    """Run a command and return its standard output, or standard error if it must fail."""
    result = subprocess.run(
        [sys.executable, "-m", "toolkit.cli.main", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **environment},
        check=False,
        timeout=120,
    )
    assert result.returncode == code, (words, result)
    return result.stdout if code == 0 else result.stderr


def test_this_machine_is_a_device(tmp_path):
    [row] = json.loads(toolkit("devices", "local", "--json", TOOLKIT_HOME=str(tmp_path / "h")))
    assert row["device"] == "local" and row["kind"] == "local"
    assert row["abi"] in ("x86_64", "arm64-v8a")
    assert row["memory_total_kib"] > row["memory_available_kib"] > 0
    assert row["page_size"] >= 4096 and row["free_bytes"] > 0
    table = toolkit("devices", "local", TOOLKIT_HOME=str(tmp_path / "h"))
    assert row["abi"] in table and row["release"].split()[0] in table


def test_a_device_that_is_not_there_fails_with_a_remedy(tmp_path):
    home = {"ANDROID_USER_HOME": str(tmp_path)}
    output = toolkit("devices", "127.0.0.1:1", code=1, **home)
    assert output == ""  # the table's line is on standard output; the exit code tells machines
    result = toolkit("pull", "run1", "--device", "127.0.0.1:1", code=1, **home)
    assert result.startswith("error: device 127.0.0.1:1 refused the connection. Check address")
    assert len(result.splitlines()) == 1
    key = tmp_path / "adbkey"
    assert key.stat().st_mode & 0o077 == 0 and key.with_suffix(".pub").is_file()


def test_a_wrong_address_is_refused():
    assert "is not a device" in toolkit("pull", "run1", "--device", "a b", code=1)


def test_phones_on_usb_are_listed(monkeypatch, capsys):
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    from toolkit.cli import devices

    monkeypatch.setattr(
        devices, "find_usb_phones", lambda: [UsbPhone(None, "LIBUSB_ERROR_ACCESS [-3]")]
    )
    devices.devices(None, True)
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["device"] == "local"
    assert "no permission" in rows[1]["error"] and "udev" in rows[1]["error"]


def test_runtimes_are_listed(tmp_path):
    rows = json.loads(toolkit("runtime", "list", "--json", TOOLKIT_CACHE=str(tmp_path)))
    assert {row["abi"]: row["built"] for row in rows} == {"arm64-v8a": False, "x86_64": False}
    assert "toolkit runtime build --abi arm64-v8a" in toolkit(
        "runtime", "list", TOOLKIT_CACHE=str(tmp_path)
    )
    assert "must be one of" in toolkit("runtime", "build", "--abi", "mips", code=2)
