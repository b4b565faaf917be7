"""`toolkit deploy`: runtime, bundle and data to a device; only what differs is sent."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.api.devices import Deployment, checked_cargo, open_device
from toolkit.cli.common import print_json, say, say_next
from toolkit.cli.options import AsJson, OnDevice
from toolkit.cli.transfers import transfer_bar
from toolkit.cli.units import bytes_text
from toolkit.device import Device
from toolkit.device.transfer import Report


def deploy(
    bundle: Annotated[Path, typer.Argument(help="Folder that `toolkit export` wrote.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder that `toolkit data` wrote.")
    ] = None,
    device: OnDevice = "local",
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
    as_json: AsJson = False,
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
    cargo = checked_cargo(bundle, data, name)
    with open_device(device) as target:
        if app:
            _prepare_app(target.connection, apk)
        done = target.send(cargo, with_runtime=not app, bars=transfer_bar)
    say_sent(done)
    if as_json:
        print_json(done.to_json())
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


def say_sent(done: Deployment) -> None:
    """Say how much was sent, and how much a device had."""
    for what, report in done.transfers.items():
        _say_report(f"{what} {getattr(done, what)}", report)


def _say_report(what: str, report: Report) -> None:
    resumed = f", {bytes_text(report.resumed)} from before" if report.resumed else ""
    say(
        f"{what}: {bytes_text(report.sent)} sent{resumed}, {bytes_text(report.unchanged)} unchanged"
    )
