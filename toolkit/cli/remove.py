"""`toolkit remove`: free what a device holds."""

import sys
from typing import Annotated, Literal

import typer

from toolkit.cli.common import print_json, say
from toolkit.cli.options import AsJson, OnDevice
from toolkit.cli.units import bytes_text
from toolkit.device import open_device
from toolkit.device.inventory import Item, inventory, select
from toolkit.device.inventory import remove as remove_items


def remove(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="As in `toolkit list`: runs/run1 or run1."),
    ] = None,
    device: OnDevice = "local",
    every: Annotated[
        Literal["bundles", "data", "runs", "adapters", "runtime", "scratch"] | None,
        typer.Option("--all", help="Everything of this kind that is not in use."),
    ] = None,
    old: Annotated[
        bool,
        typer.Option(
            "--old",
            help="What nothing needs: older runtimes, what was not sent completely, scratch "
            "folders, and adapters that no run started from.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove bundles, data, runs, adapters, runtimes or scratch folders from a device.

    What a running trainer uses stays. On a terminal --all asks before it removes anything.

    \b
    Examples:
      toolkit remove run1 --device SERIAL
      toolkit remove bundles/chat data/chat
      toolkit remove --old
      toolkit remove --all runs --yes
    """
    if not names and every is None and not old:
        raise typer.BadParameter("name what to remove, or give --all KIND or --old")
    with open_device(device) as target:
        items = inventory(target)
        chosen = select(items, names or [])
        free = [item for item in items if not item.busy and item not in chosen]
        chosen += [item for item in free if item.kind == every or (old and item.old)]
        kept = [item for item in items if item.kind == every and item.busy]
        if every and not yes and not as_json and sys.stdin.isatty() and chosen:
            typer.confirm(
                f"Remove {', '.join(item.name for item in chosen)}?", abort=True, err=True
            )
        remove_items(target, chosen)
    _report(device, chosen, kept, as_json)


def _report(device: str, removed: list[Item], kept: list[Item], as_json: bool) -> None:
    if as_json:
        freed = sum(item.bytes for item in removed)
        names = [item.name for item in removed]
        print_json({"device": device, "removed": names, "freed_bytes": freed})
        return
    for item in kept:
        say(f"{item.name} stays: {item.busy}")
    if not removed:
        say("nothing to remove")
    for item in removed:
        say(f"removed {item.name} ({bytes_text(item.bytes)})" + _consequence(item, removed))


def _consequence(item: Item, removed: list[Item]) -> str:
    """Return what can no longer be done, for something that runs were started with."""
    gone = {other.name for other in removed}
    runs = [run for run in item.used_by if f"runs/{run}" not in gone]
    return f"; to resume {', '.join(runs)} deploy it again" if runs else ""
