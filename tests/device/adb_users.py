"""Cases against a real daemon: the commands a user types, and what they are refused."""

import json
import os
import subprocess
from pathlib import Path

from tests.device.adb_daemon import ADDRESS, Daemon, Server
from tests.device.adb_phone import (
    SPEC,
    THROUGH_SERVER,
    refused,
    toolkit,
)
from tests.support.fake_trainer import write_fake_bundle, write_fake_runtime
from tests.support.processes import wait_for
from toolkit import __version__
from toolkit.device import DeviceLost, open_device
from toolkit.device.adb import AdbDevice
from toolkit.device.adb_server import ServerDevice, ServerPhone, server_phones


def commands(daemon: Daemon, folder: Path) -> None:
    """The commands a user types, one process each."""
    bundle, data = write_fake_bundle(folder)
    os.environ["TOOLKIT_DEVICE_ROOT"] = f"{folder}/root"
    os.environ["TOOLKIT_CACHE"] = f"{folder}/cache"
    write_fake_runtime(folder / "cache/runtime" / __version__ / "x86_64", version=__version__)
    [row] = json.loads(toolkit("devices", SPEC, "--json"))
    assert row["device"] == SPEC and row["abi"] == "x86_64"
    deploy = ("deploy", str(bundle), "--data", str(data), "--device", SPEC, "--json")
    assert json.loads(toolkit(*deploy))["transfers"]["bundle"]["sent"] > 0
    assert json.loads(toolkit(*deploy))["transfers"]["bundle"]["sent"] == 0
    train = ("train", "--device", SPEC, "--out", "run1", "--steps", "4", "--json")
    records = [json.loads(line) for line in toolkit(*train).splitlines()]
    assert [record["type"] for record in records] == ["run", *["step"] * 4, "end"]
    assert "run 'run1' exists" in toolkit(*train, code=1)
    toolkit("pull", "--device", SPEC, "run1", "-o", str(folder / "runs/run1"))
    assert (folder / "runs/run1/adapter_model.safetensors").is_file()
    found = json.loads(toolkit("list", "--device", SPEC, "--json"))
    uses = {item["name"]: item["used_by"] for item in found["items"]}
    assert uses["bundles/bundle"] == ["run1"] and uses["runs/run1"] == []
    toolkit("remove", "--device", SPEC, "run1")
    assert not (folder / "root/runs/run1").exists()
    daemon.kill()
    error = toolkit("pull", "--device", SPEC, "run1", code=1)
    gone = ("no device emulator-5554", "emulator-5554 is offline", "was lost")
    assert any(words in error for words in (gone if THROUGH_SERVER else ["refused the connection"]))


def server_states(daemon: Daemon, folder: Path) -> None:
    """What a server knows is listed with its state; phones that are not ready are explained."""
    server = Server()
    server.start()
    daemon.kill()
    daemon.start()
    rows = {row["device"]: row for row in json.loads(toolkit("devices", "--json"))}
    assert rows.keys() == {"local", Server.SERIAL}
    assert rows[Server.SERIAL]["abi"] == "x86_64" and rows[Server.SERIAL]["kind"] == "adb"
    assert isinstance(open_device(Server.SERIAL), ServerDevice)
    assert isinstance(open_device(ADDRESS), AdbDevice), "the server does not have it"
    subprocess.run(["adb", "connect", ADDRESS], check=True, capture_output=True)
    wait_for(lambda: isinstance(open_device(ADDRESS), ServerDevice))
    wait_for(lambda: ServerPhone(ADDRESS, "device") in server_phones())
    with open_device(ADDRESS) as device:
        assert device.shell("echo by the server").text == "by the server\n"
        error = refused(open_device("NOSUCHPHONE").connect)
        assert "no device NOSUCHPHONE (the adb server knows: " in error.cause
        assert "adb pair" in error.remedy
        os.environ["ANDROID_ADB_SERVER_PORT"] = "5038"
        assert isinstance(open_device(ADDRESS), AdbDevice), "no server runs there"
        del os.environ["ANDROID_ADB_SERVER_PORT"]
        server.stop()
        error = refused(device.shell, "true")
        assert isinstance(error, DeviceLost) and "server has ended" in error.cause
    assert server_phones() is None, "one was started"


def refusals(daemon: Daemon, folder: Path) -> None:
    daemon.kill()
    error = refused(open_device(SPEC).connect)
    assert "refused the connection" in error.cause and "adb tcpip" in error.remedy
    error = refused(open_device("NOSUCHPHONE").connect)
    assert "no device with serial NOSUCHPHONE" in error.cause
