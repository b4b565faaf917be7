"""`toolkit deploy`: runtime, bundle and data to a device; only what differs is sent."""

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.common import print_json, say, say_next
from toolkit.cli.transfers import transfer_bar
from toolkit.cli.units import bytes_text
from toolkit.device import Device, open_device
from toolkit.device.contents import check_tokenizer, checked_files
from toolkit.device.layout import bundle_path, check_name, data_path
from toolkit.device.runtime import deploy_runtime, runtime_folder
from toolkit.device.transfer import LocalFile, Report, push_folder


def deploy(
    bundle: Annotated[Path, typer.Argument(help="Folder that `toolkit export` wrote.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder that `toolkit data` wrote.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="local, a phone's SERIAL, or HOST:PORT.")
    ] = "local",
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of bundle and data on the device (default: their own)."),
    ] = None,
    app: Annotated[
        bool, typer.Option("--app", help="For the Android app instead of the shell's runtime.")
    ] = False,
    apk: Annotated[
        Path | None,
        typer.Option("--apk", help="With --app: install this APK (default: the one built here)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Copy the runtime, a bundle and its data to a device.

    Files that the device has already (by SHA-256) are not sent again, and an interrupted copy goes
    on where it stopped. Nothing is sent of a bundle or data that is damaged, and no data that was
    made with another tokenizer than the bundle's.

    \b
    Examples:
      toolkit deploy bundle --data data --device local
      toolkit deploy bundle --data data --device 192.168.1.20:5555 --name chat
      toolkit deploy bundle --device 192.168.1.20:5555 --app --apk toolkit-trainer-debug.apk
    """
    if apk is not None and not app:
        raise typer.BadParameter("--apk is for --app")
    files = {"bundle": checked_files(bundle, "bundle")}
    bundle_name = check_name(name or bundle.resolve().name, "bundle")
    data_name = None
    if data is not None:
        files["data"] = checked_files(data, "data set")
        check_tokenizer(bundle, data)
        data_name = check_name(name or data.resolve().name, "data set")
    with open_device(device) as target:
        if app:
            _prepare_app(target, apk)
        result = _deploy(target, files, bundle_name, data_name, with_runtime=not app)
    if as_json:
        print_json(result)
        return
    where = f"--device {device}{' --app' if app else ''}"
    if data is None:
        say_next(f"toolkit deploy {bundle} --data DATA {where}")
    else:
        say_next(f"toolkit train {where} --steps 50 --out run1")


def _prepare_app(device: Device, apk: Path | None) -> None:
    """Install the APK that was given or built, unless the phone has it."""
    from toolkit.device.app_install import prepare

    with transfer_bar("app") as progress:
        done = prepare(device, apk, progress)
    say(f"app: {done}")


def _deploy(
    device: Device,
    files: dict[str, list[LocalFile]],
    bundle_name: str,
    data_name: str | None,
    *,
    with_runtime: bool,
) -> dict[str, Any]:
    info = device.info()
    runtime = None
    if with_runtime:  # The app brings its own.
        folder = runtime_folder(device, info.abi)
        with transfer_bar("runtime") as progress:
            runtime = deploy_runtime(device, folder, info.abi, progress)
    target = bundle_path(device, bundle_name)
    sent = {"bundle": _send(device, files["bundle"], target, f"bundle {bundle_name}")}
    if data_name is not None:
        target = data_path(device, data_name)
        sent["data"] = _send(device, files["data"], target, f"data {data_name}")
    return {
        "device": info.to_json(),
        "runtime": runtime.path if runtime else None,
        "bundle": bundle_name,
        "data": data_name,
        "transfers": {what: vars(report) for what, report in sent.items()},
    }


def _send(device: Device, files: list[LocalFile], target: str, what: str) -> Report:
    with transfer_bar(what) as progress:
        report = push_folder(device, files, target, progress=progress)
    resumed = f", {bytes_text(report.resumed)} from before" if report.resumed else ""
    say(
        f"{what}: {bytes_text(report.sent)} sent{resumed}, {bytes_text(report.unchanged)} unchanged"
    )
    return report
