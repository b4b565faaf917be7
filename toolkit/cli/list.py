"""`toolkit list`: what a device holds, with sizes, ages and uses."""

import time
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from toolkit.cli.common import console, print_json, say_next
from toolkit.cli.options import AsJson, OnDevice
from toolkit.cli.units import age_text, bytes_text
from toolkit.device import open_device
from toolkit.device.inventory import Item, inventory


def list(
    device: OnDevice = "local",
    as_json: AsJson = False,
) -> None:
    """Show what a device holds: bundles, data, runs, adapters, runtimes and scratch folders.

    Sizes are of the files, ages since the last change. What is called old nothing needs any more:
    `toolkit remove --old` frees it.

    \b
    Examples:
      toolkit list
      toolkit list --device SERIAL --json
    """
    with open_device(device) as target:
        items, free, root = inventory(target), target.free_bytes(), target.root
    if as_json:
        rows = [item.to_json() for item in items]
        print_json({"device": device, "root": root, "free_bytes": free, "items": rows})
        return
    if items:
        console.print(_table(items))
    total = bytes_text(sum(item.bytes for item in items))
    left = "" if free is None else f", {bytes_text(free)} free"
    console.print(f"{total} in {root}{left}", markup=False, highlight=False, soft_wrap=True)
    old = sum(item.bytes for item in items if item.old)
    if old:
        say_next(f"toolkit remove --device {device} --old    # frees {bytes_text(old)}")


def _table(items: Sequence[Item]) -> Any:
    table = Table("", "size", "age", "", box=None, pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    now = time.time()
    for item in items:
        age = age_text(max(0.0, now - item.modified))
        table.add_row(item.name, bytes_text(item.bytes), age, escape(_note(item)))
    return table


def _note(item: Item) -> str:
    if item.busy:
        return "running" if item.kind == "runs" else item.busy
    if item.old:
        return f"old: {item.old}"
    return f"used by {', '.join(item.used_by)}" if item.used_by else ""
