"""The trainer on a device: putting it there, asking its version, and the command that starts it."""

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import BUNDLE_FORMAT_VERSION, __version__
from toolkit.device import runtime_build
from toolkit.device.base import Device
from toolkit.device.layout import read_marker
from toolkit.device.parsers import parse_machine
from toolkit.device.shell import command_line, quote
from toolkit.device.transfer import Progress, digest, push_folder, scan
from toolkit.errors import ToolkitError
from toolkit.runtime import runtime_directory


@dataclass(frozen=True)
class Runtime:
    """A trainer on a device: its folder and the name of its own loader, None for the system's."""

    path: str
    loader: str | None

    def command(self, *arguments: str | int | float) -> str:
        """Return the shell command that runs the trainer with these arguments, all quoted."""
        start = ["./trainer"]
        if self.loader:
            start = [f"./{self.loader}", "--library-path", ".", "./trainer"]
        return f"cd {quote(self.path)} && exec {command_line(*start, *arguments)}"


def runtime_folder(device: Device, abi: str) -> Path:
    """Return the folder on this machine that holds the runtime for a device.

    This machine itself uses the trainer built when the toolkit was installed; other devices one
    that brings its own loader and libraries.
    """
    if device.kind == "local" and abi == parse_machine(platform.machine()):
        return runtime_directory(abi)
    folder = runtime_build.built_runtime(abi)
    if not (folder / "trainer").is_file():
        raise ToolkitError(
            f"the runtime for {abi} devices is not built",
            f"Run `toolkit runtime build --abi {abi}`",
        )
    return folder


def deploy_runtime(
    device: Device, folder: Path, abi: str, progress: Progress = lambda name, done, total: None
) -> Runtime:
    """Send a runtime folder under a name made of its content, and check that it runs and fits."""
    files = scan(folder, _belongs)
    path = f"{device.root}/runtime/{abi}-{digest(files)[:12]}"
    push_folder(device, files, path, progress=progress)
    runtime = Runtime(path, _loader([file.name for file in files]))
    check_version(device, runtime)
    return runtime


def find_runtime(device: Device) -> Runtime:
    """Return the runtime last sent to a device."""
    entries = device.list(f"{device.root}/runtime")
    folders = [entry.path for entry in entries if entry.kind == "directory"]
    sent = [marker for path in sorted(folders)[:100] if (marker := read_marker(device, path))]
    if not sent:
        raise ToolkitError(
            f"there is no runtime on device {device.spec}",
            f"Run `toolkit deploy BUNDLE --data DATA --device {device.spec}`",
        )
    newest = max(sent, key=lambda marker: marker.time).path
    return Runtime(newest, _loader([entry.name for entry in device.list(newest)]))


def _belongs(name: str) -> bool:
    """Whether a file is part of a runtime; this machine's own build folder holds more."""
    if name == "trainer" or name.startswith("ld-linux"):
        return True
    return name.startswith("lib") and ".so" in name and "operators" not in name


def _loader(names: list[str]) -> str | None:
    return next((name for name in names if name.startswith("ld-linux")), None)


def runtime_info(device: Device, runtime: Runtime) -> dict[str, Any]:
    """Return what `trainer info` says on the device."""
    result = device.shell(runtime.command("info"))
    lines = result.text.strip().splitlines()
    try:
        info = json.loads(lines[-1]) if result.code == 0 and lines else None
    except ValueError:
        info = None
    if not isinstance(info, dict):
        detail = f": {lines[-1][:200]}" if lines else ""
        raise ToolkitError(
            f"the trainer does not run on device {device.spec} (code {result.code}){detail}",
            "Check that the runtime's ABI is the device's: `toolkit devices`",
        )
    return info


def check_version(device: Device, runtime: Runtime) -> dict[str, Any]:
    """Raise unless the device's trainer has this toolkit's version and format; return its info."""
    info = runtime_info(device, runtime)
    theirs = (str(info.get("version")), info.get("format_version"))
    if theirs != (__version__, BUNDLE_FORMAT_VERSION):
        raise ToolkitError(
            f"the runtime on device {device.spec} is version {theirs[0][:40]} "
            f"(format {str(theirs[1])[:10]}), this toolkit is {__version__} "
            f"(format {BUNDLE_FORMAT_VERSION})",
            "Run `toolkit runtime build` for other devices or reinstall, then `toolkit deploy`",
        )
    return info
