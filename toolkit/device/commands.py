"""Trainer commands that compute and end, `gradients` and `evaluate`: run on a device, output read.

Runs that train are started detached instead, see `toolkit.device.runs`.
"""

import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.device.base import Device
from toolkit.device.contents import checked_files
from toolkit.device.errors import DeviceCommandError
from toolkit.device.layout import bundle_path, list_deployed
from toolkit.device.parsers import parse_object, printable
from toolkit.device.runtime import Runtime, deploy_runtime, runtime_folder
from toolkit.device.shell import command_line, lifeline
from toolkit.device.transfer import Progress, digest, push_folder
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file

_SILENCE_SECONDS = 3600.0
_KILL_SECONDS = 10.0  # a device has to end what has run too long
_LINE_LIMIT = 1 << 20
_OUTPUT_LIMIT = 16 << 30


def run_trainer(
    device: Device,
    runtime: Runtime,
    *arguments: str | int | float,
    scratch: str | None = None,
    seconds: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Run a trainer command to its end and yield the JSON objects it prints, as they come.

    The command ends with this side: interrupted, killed or cut off, it leaves nothing running on
    the device, and `scratch`, a folder there, is removed. After `seconds` the device kills it,
    whatever it prints, and one that does not answer then either is lost.

    Raises:
        ToolkitError: The trainer failed, with the cause it printed, or was killed.
        DeviceLost: The connection broke, or nothing came for too long.
    """
    last, silence, run = "", _SILENCE_SECONDS, runtime.command(*arguments)
    if seconds is not None:
        run = f"( sleep {math.ceil(seconds)}; kill -9 0 ) >/dev/null 2>&1 & {run}"
        silence = min(silence, seconds + _KILL_SECONDS)
    on_loss = command_line("rm", "-rf", scratch) if scratch else "true"
    command = lifeline(f"{run} 2>&1", on_loss)
    try:
        for line in _lines(device.stream(command, silence, input_open=True)):
            record = parse_object(line)
            if record is not None:
                yield record
            elif line.strip():
                last = printable(line)
    except DeviceCommandError as error:
        cause = last.removeprefix("error: ") or error.cause
        raise ToolkitError(f"the trainer failed on device {device.spec}: {cause}") from error


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    partial = b""
    for chunk in chunks:
        *lines, partial = (partial + chunk).split(b"\n")
        if len(partial) > _LINE_LIMIT:
            raise DeviceCommandError("the trainer printed a line that never ends")
        for line in lines:
            yield line.decode("utf-8", "replace")
    if partial:
        yield partial.decode("utf-8", "replace")


@contextmanager
def scratch_folder(device: Device) -> Iterator[str]:
    """Yield a new folder on the device that is removed at the end."""
    path = f"{device.root}/scratch/{secrets.token_hex(8)}"
    device.make_directory(path)
    try:
        yield path
    finally:
        device.remove(path)


def send_runtime(device: Device, progress: Progress) -> Runtime:
    """Send the runtime that fits the device, unless it is there, and return it."""
    abi = device.info().abi
    return deploy_runtime(device, runtime_folder(device, abi), abi, progress)


def send_bundle(device: Device, bundle: Path, progress: Progress) -> str:
    """Send a bundle, unless it is there under any name, and return its folder on the device.

    Raises:
        ToolkitError: A file of it is damaged.
    """
    files = checked_files(bundle, "bundle")
    content = digest(files)
    for deployed in list_deployed(device, "bundles"):
        if deployed.sha256 == content:
            return deployed.path
    path = bundle_path(device, bundle.resolve().name)
    push_folder(device, files, path, progress=progress)
    return path


def send_file(
    device: Device,
    file: Path,
    path: str,
    progress: Progress = lambda name, done, total: None,
) -> None:
    """Send one file, not resumable, and check that it arrived."""
    total, done = file.stat().st_size, 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(file.name, done, total)

    with file.open("rb") as source:
        device.append(path, source, total, advance)
    if device.sha256([path]).get(path) != sha256_file(file):
        raise DeviceCommandError(f"{file.name} arrived damaged on device {device.spec}")


def fetch_file(
    device: Device, path: str, target: Path, on_bytes: Callable[[int], None] = lambda _: None
) -> None:
    """Copy one file from the device and check it against the device's digest."""
    entry = device.stat(path)
    if entry is None or entry.kind != "file" or entry.size > _OUTPUT_LIMIT:
        raise DeviceCommandError(f"{path} on device {device.spec} is not the file expected")
    with target.open("wb") as sink:
        device.pull(path, sink, 0, entry.size, on_bytes)
    if device.sha256([path]).get(path) != sha256_file(target):
        raise DeviceCommandError(f"{target.name} arrived damaged from device {device.spec}")
