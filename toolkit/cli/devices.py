"""`toolkit devices`: this machine, the phones of an adb server or on USB, and those by address."""

from typing import Annotated, Any

import typer
from rich.table import Table

from toolkit.cli.common import console, print_json, say_next
from toolkit.cli.options import AsJson
from toolkit.cli.units import bytes_text
from toolkit.device import open_device
from toolkit.device.adb import no_usb_permission
from toolkit.device.adb_server import ServerPhone, server_phones
from toolkit.device.adb_transport import find_usb_phones
from toolkit.errors import ToolkitError


def devices(
    addresses: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DEVICE]...", help="Only these: local, SERIAL or HOST:PORT."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the devices that can be reached: this machine, the phones, phones by address.

    While an adb server runs (Android Studio starts one) its phones are listed, emulators and those
    on Wi-Fi included; else those on USB. A phone with wireless debugging has to be paired once:
    `adb pair HOST:PORT`, then `adb connect HOST:PORT`. Others on the network are not searched for:
    name them as HOST:PORT (run `adb tcpip 5555` over USB once).

    \b
    Examples:
      toolkit devices
      toolkit devices --json
      toolkit devices 192.168.1.20:5555
    """
    rows = [_look(spec) for spec in addresses] if addresses else _look_around()
    if as_json:
        print_json(rows)
    else:
        _print_table(rows)
        reached = [row["device"] for row in rows if "error" not in row]
        if reached:  # the last: phones come after this machine
            say_next(f"toolkit deploy BUNDLE --data DATA --device {reached[-1]}")
    if addresses and any("error" in row for row in rows):
        raise typer.Exit(1)


def _look_around() -> list[dict[str, Any]]:
    """This machine, and the phones of a running adb server; without one those on USB."""
    return [_look("local"), *_phones()]


def _phones() -> list[dict[str, Any]]:
    try:
        phones = server_phones()
    except ToolkitError as error:
        return [{"device": "(adb server)", "error": str(error)}]
    if phones is not None:
        return [_look_through_server(phone) for phone in phones]
    rows = []
    for phone in find_usb_phones():
        if phone.serial is None:
            rows.append({"device": "(USB)", "error": str(no_usb_permission())})
        else:
            rows.append(_look(phone.serial))
    return rows


def _look_through_server(phone: ServerPhone) -> dict[str, Any]:
    refusal = phone.refusal()
    if refusal is None:
        return _look(phone.serial)
    return {"device": phone.serial, "state": phone.state, "error": str(refusal)}


def _look(spec: str) -> dict[str, Any]:
    try:
        with open_device(spec) as device:
            return device.info().to_json()
    except ToolkitError as error:
        return {"device": spec, "error": str(error)}


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = Table("Device", "Model", "ABI", "System", "Memory free / total", "Page", "Storage free")
    for row in rows:
        if "error" not in row:
            table.add_row(*_cells(row))
    if table.row_count:
        console.print(table)
    for row in rows:
        if "error" in row:
            console.print(f"{row['device']}: {row['error']}", markup=False, highlight=False)


def _cells(row: dict[str, Any]) -> list[str]:
    from rich.markup import escape

    system = row["release"] + (f" (SDK {row['sdk']})" if row["sdk"] else "")
    available, total = row["memory_available_kib"], row["memory_total_kib"]
    memory = f"{_kib(available)} / {_kib(total)}"
    page = f"{row['page_size'] // 1024} KiB" if row["page_size"] else "?"
    free = bytes_text(row["free_bytes"]) if row["free_bytes"] is not None else "?"
    texts = [row["device"], row["model"], row["abi"], system, memory, page, free]
    return [escape(text) for text in texts]


def _kib(value: int | None) -> str:
    return "?" if value is None else bytes_text(value * 1024)
