"""The app's commands against a real daemon and a stand-in for the app, one case per process:
`python -m tests.device.app_cases CASE FOLDER`.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.device.adb_daemon import ADDRESS, Daemon
from tests.device.adb_phone import refused
from tests.support.fake_app import write_fake_app
from tests.support.fake_trainer import ADAPTER, write_fake_bundle
from toolkit import __version__
from toolkit.device import app_export
from toolkit.device.adb import AdbDevice

DEVICE = ("--device", ADDRESS, "--app")


def toolkit(*words: str, code: int = 0, errors: bool = False) -> str:
    """Run a command as a process; return its output, or its errors if wanted or if it must fail."""
    command = [sys.executable, "-m", "toolkit.cli.main", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == code, (words, result)
    return result.stdout if code == 0 and not errors else result.stderr


def write_apk(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("classes.dex", *names):
            archive.writestr(name, name)
    return path


def commands(folder: Path) -> None:
    """Deploy with an APK, train to the end while the steps are shown, resume, pull."""
    bundle, data = write_fake_bundle(folder)
    deploy = ("deploy", str(bundle), "--data", str(data), *DEVICE)
    apk = write_apk(folder / "a.apk", "lib/x86_64/libtoolkit_jni.so")
    said = toolkit(*deploy, "--apk", str(apk), "--json", errors=True)
    assert "app: a.apk is installed\n" in said, said
    assert (folder / "app/installed.apk").read_bytes() == apk.read_bytes()
    assert "app: a.apk is there already\n" in toolkit(*deploy, "--apk", str(apk), errors=True)
    assert not (folder / "root/app.apk").exists(), "the copy was left behind"
    assert (folder / "root/bundles/bundle/base.ptd").is_file()
    assert not (folder / "root/runtime").exists(), "the app brings its own"

    train = ("train", *DEVICE, "--out", "run1", "--steps", "4", "--json")
    records = [json.loads(line) for line in toolkit(*train).splitlines()]
    assert [record["type"] for record in records] == ["run", *["step"] * 4, "end"]
    assert "keeps its settings: --steps" in toolkit(*train, "--resume", code=1)
    resume = ("train", *DEVICE, "--out", "run1", "--resume", "--json")
    records = [json.loads(line) for line in toolkit(*resume).splitlines()]
    steps = [record["step"] for record in records if record["type"] == "step"]
    assert steps == [5, 6], records
    said = toolkit("train", *DEVICE, "--attach", "run1", errors=True)
    assert f"next: toolkit pull --device {ADDRESS} --app run1 -o runs/run1" in said
    said = toolkit("pull", *DEVICE, "run1", "-o", str(folder / "runs/run1"), errors=True)
    assert "left on the device" not in said
    assert (folder / "runs/run1/adapter_model.safetensors").read_bytes() == ADAPTER
    assert (folder / "runs/run1/trace.jsonl").read_text().count('"step":') == 6


def refusals(folder: Path) -> None:
    """What the phone and the app refuse comes through in their own words."""
    bundle, data = write_fake_bundle(folder)
    deploy = ("deploy", str(bundle), "--data", str(data), *DEVICE)
    train = ("train", *DEVICE, "--out", "run1", "--steps", "4")
    assert "the app is not installed" in toolkit(*train, code=1)
    no_apk = folder / "no.apk"
    no_apk.write_text("hello")
    assert "is no APK" in toolkit(*deploy, "--apk", str(no_apk), code=1)
    apk = write_apk(folder / "a.apk")
    (folder / "app/refuse").write_text("INSTALL_FAILED_UPDATE_INCOMPATIBLE")
    said = toolkit(*deploy, "--apk", str(apk), code=1)
    assert "INSTALL_FAILED_UPDATE_INCOMPATIBLE" in said and "Uninstall the other build" in said
    (folder / "app/refuse").unlink()
    assert "it has no engine for x86_64" in toolkit(*deploy, "--apk", str(apk), errors=True)
    toolkit("deploy", str(bundle), "--data", str(data), "--name", "refused", *DEVICE)
    choice = ("--bundle", "refused", "--data", "refused")
    assert "refuses: Bundle “refused”: it is damaged" in toolkit(*train, *choice, code=1)
    assert "there is no run 'gone'" in toolkit("pull", *DEVICE, "gone", code=1)


def release(folder: Path) -> None:
    """A build that `run-as` cannot look into exports to Downloads, from where it is fetched."""
    write_apk(folder / "app/installed.apk")
    (folder / "app/release").touch()
    resume = ("train", *DEVICE, "--out", "run1", "--resume")
    assert "does not let `run-as` in" in toolkit(*resume, code=1)
    downloads = folder / "Download"
    downloads.mkdir()
    archive = downloads / "run1 (1).zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("run1/adapter_model.safetensors", b"adapter\n" * 1000)
        target.writestr("run1/trace.jsonl", b"{}\n")
        target.writestr("run1/../../evil", b"evil")
        target.writestr("../evil", b"evil")
    app_export.DOWNLOADS = str(downloads)
    with AdbDevice(ADDRESS, root=f"{folder}/root") as device:
        pulled = app_export.pull_export(device, "run1", folder / "runs/run1")
        assert pulled.files == {"trace.jsonl": 3, "adapter_model.safetensors": 8000}
        assert sorted(path.name for path in (folder / "runs/run1").iterdir()) == sorted(
            pulled.files
        )
        assert not list(folder.rglob("evil")) and not archive.exists()
        error = refused(app_export.pull_export, device, "run1", folder / "runs/run1")
        assert "is not on device" in error.cause
        archive.write_bytes(b"PK\3\4 not an archive")
        error = refused(app_export.pull_export, device, "run1", folder / "runs/run1")
        assert "is damaged" in error.cause
        assert (folder / "runs/run1/trace.jsonl").read_bytes() == b"{}\n"


CASES = {case.__name__: case for case in (commands, refusals, release)}


def main() -> None:
    case, folder = CASES[sys.argv[1]], Path(sys.argv[2])
    os.environ["ANDROID_USER_HOME"] = str(folder / "android")
    os.environ["TOOLKIT_DEVICE_ROOT"] = f"{folder}/root"
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{write_fake_app(folder / 'app', __version__)}:{path}"
    daemon = Daemon()
    daemon.start()
    os.environ["PATH"] = path
    try:
        case(folder)
    finally:
        daemon.kill()


if __name__ == "__main__":
    main()
