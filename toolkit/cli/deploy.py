"""`toolkit deploy`: runtime, bundle and data to a device; only what differs is sent."""

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.common import error_console, print_json
from toolkit.cli.transfers import transfer_bar
from toolkit.cli.units import bytes_text
from toolkit.device import Device, open_device
from toolkit.device.layout import bundle_path, check_name, data_path
from toolkit.device.runtime import deploy_runtime, runtime_folder
from toolkit.device.transfer import Report, push_folder, scan
from toolkit.errors import ToolkitError


def deploy(
    bundle: Annotated[Path, typer.Argument(help="Folder that `toolkit export` wrote.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder that `toolkit data` wrote.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="local, a USB SERIAL, or HOST:PORT.")
    ] = "local",
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of bundle and data on the device (default: their own)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Copy the runtime, a bundle and its data to a device.

    Files that the device has already (by SHA-256) are not sent again, and an interrupted copy goes
    on where it stopped.

    \b
    Examples:
      toolkit deploy bundle --data data --device local
      toolkit deploy bundle --data data --device 192.168.1.20:5555 --name chat
    """
    _check_folder(bundle, "manifest.json", "bundle", "toolkit export MODEL -o bundle")
    bundle_name = check_name(name or bundle.resolve().name, "bundle")
    data_name = None
    if data is not None:
        _check_folder(data, "data.json", "data set", "toolkit data FILE --tokenizer bundle -o data")
        data_name = check_name(name or data.resolve().name, "data set")
    with open_device(device) as target:
        result = _deploy(target, bundle, bundle_name, data, data_name)
    if as_json:
        print_json(result)


def _deploy(
    device: Device, bundle: Path, bundle_name: str, data: Path | None, data_name: str | None
) -> dict[str, Any]:
    info = device.info()
    folder = runtime_folder(device, info.abi)
    with transfer_bar("runtime") as progress:
        runtime = deploy_runtime(device, folder, info.abi, progress)
    target = bundle_path(device, bundle_name)
    sent = {"bundle": _send(device, bundle, target, f"bundle {bundle_name}")}
    if data is not None and data_name is not None:
        sent["data"] = _send(device, data, data_path(device, data_name), f"data {data_name}")
    return {
        "device": info.to_json(),
        "runtime": runtime.path,
        "bundle": bundle_name,
        "data": data_name,
        "transfers": {what: vars(report) for what, report in sent.items()},
    }


def _send(device: Device, folder: Path, target: str, what: str) -> Report:
    with transfer_bar(what) as progress:
        report = push_folder(device, scan(folder), target, progress=progress)
    resumed = f", {bytes_text(report.resumed)} from before" if report.resumed else ""
    _say(
        f"{what}: {bytes_text(report.sent)} sent{resumed}, {bytes_text(report.unchanged)} unchanged"
    )
    return report


def _say(line: str) -> None:
    error_console.print(line, markup=False, highlight=False)


def _check_folder(folder: Path, file: str, what: str, remedy: str) -> None:
    if not (folder / file).is_file():
        raise ToolkitError(f"{folder} is not a {what} (it has no {file})", f"Run `{remedy}`")
