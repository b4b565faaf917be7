"""The app's way onto a phone: finding the APK, and the package manager's answers."""

import re
import zipfile
from pathlib import Path

from toolkit.device.app import PACKAGE, require_app
from toolkit.device.base import Device
from toolkit.device.commands import send_file
from toolkit.device.shell import command_line
from toolkit.device.transfer import Progress
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file

_INSTALL_SECONDS = 300.0
_CHECKOUT = Path(__file__).parents[2]
_BUILT = ("build/android/toolkit-trainer*.apk", "android_app/app/build/outputs/apk/*/*.apk")
_BUILD_IT = "Build it with `make android` or Gradle"


def parse_install(output: str) -> str:
    """Return why `pm install` failed, or nothing if it succeeded."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any(line == "Success" for line in lines):
        return ""
    for line in lines:
        found = re.search(r"Failure \[(\w+)", line)
        if found:
            return found[1]
    return lines[-1][:200] if lines else "the package manager said nothing"


def parse_package_paths(output: str) -> list[str]:
    """Return the APKs of an installed app from the output of `pm path`."""
    lines = (line.strip() for line in output.splitlines())
    return [line.removeprefix("package:") for line in lines if line.startswith("package:/")]


def built_apk(abi: str, checkout: Path = _CHECKOUT) -> Path | None:
    """Return the newest APK that was built here, one with an engine for `abi` before others."""
    found = [path for pattern in _BUILT for path in checkout.glob(pattern)]
    ranked = sorted(found, key=lambda path: (has_engine(path, abi), path.stat().st_mtime))
    return ranked[-1] if ranked else None


def has_engine(apk: Path, abi: str) -> bool:
    """Whether an APK carries the native engine for phones of this ABI.

    Raises:
        ToolkitError: It is no APK.
    """
    try:
        with zipfile.ZipFile(apk) as archive:
            return f"lib/{abi}/libtoolkit_jni.so" in archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise ToolkitError(f"{apk} is no APK: {error}", _BUILD_IT) from error


def prepare(
    device: Device, apk: Path | None, progress: Progress = lambda name, done, total: None
) -> str:
    """Make sure that the app is on a phone; return in words what was done.

    A given APK is installed. Without one the APK of this checkout is, if the phone has no app or an
    older build of it; an APK without engine never replaces an app that is there.

    Raises:
        ToolkitError: There is no app on the phone and no APK, or the phone refuses it.
    """
    if device.kind != "adb":
        require_app(device)
    abi = device.info().abi
    installed = parse_package_paths(device.shell(command_line("pm", "path", PACKAGE)).text)
    if apk is None:
        apk = built_apk(abi)
        if apk is None or (installed and not has_engine(apk, abi)):
            require_app(device)
            return "the app is there already"
    if not apk.is_file():
        raise ToolkitError(f"there is no APK {apk}", _BUILD_IT)
    engine = "" if has_engine(apk, abi) else f" (it has no engine for {abi}, so it cannot train)"
    if len(installed) == 1 and device.sha256(installed).get(installed[0]) == sha256_file(apk):
        return f"{apk.name} is there already{engine}"
    install(device, apk, progress)
    return f"{apk.name} is installed{engine}"


def install(device: Device, apk: Path, progress: Progress = lambda name, done, total: None) -> None:
    """Install an APK, keeping the data of an older version of the app.

    Raises:
        ToolkitError: The phone refuses it; names the package manager's reason.
    """
    path = f"{device.root}/app.apk"
    device.make_directory(device.root)
    device.remove(path)
    send_file(device, apk, path, progress)
    try:
        result = device.shell(command_line("pm", "install", "-r", "-t", path), _INSTALL_SECONDS)
    finally:
        device.remove(path)
    if reason := parse_install(result.text):
        remedy = {
            "INSTALL_FAILED_UPDATE_INCOMPATIBLE": f"Uninstall the other build of {PACKAGE}",
            "INSTALL_FAILED_INSUFFICIENT_STORAGE": "Free some space on the phone",
            "INSTALL_FAILED_USER_RESTRICTED": "Allow installing over USB in the developer options",
        }.get(reason, "")
        raise ToolkitError(f"device {device.spec} does not install {apk.name}: {reason}", remedy)
