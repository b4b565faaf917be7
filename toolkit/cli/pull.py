"""`toolkit pull`: a run's trace and adapter from a device, checked."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.api.runs import Result, TrainingRun
from toolkit.cli.common import console, error_console, print_json
from toolkit.cli.options import AsJson, OnDevice
from toolkit.cli.transfers import transfer_bar
from toolkit.cli.units import bytes_text
from toolkit.device import open_device
from toolkit.device.app import debuggable, inside_app
from toolkit.device.app_export import pull_export
from toolkit.device.fetch import Pulled
from toolkit.device.layout import check_name
from toolkit.device.pulled_check import check_pulled
from toolkit.device.runs import Run
from toolkit.errors import ToolkitError


def pull(
    run: Annotated[str, typer.Argument(help="Name given to `toolkit train --out`.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write (default: runs/RUN).")
    ] = None,
    device: OnDevice = "local",
    with_state: Annotated[
        bool, typer.Option("--with-state", help="Also copy the state that --resume needs.")
    ] = False,
    app: Annotated[bool, typer.Option("--app", help="From the Android app on the phone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a run's trace and adapter back from a device.

    The adapter is in PEFT's format: the last one, or the best of a run with --keep best. README.md,
    a model card, says what it was made of and how to load it. Those of
    earlier saves (--keep-checkpoints) come to its checkpoints/step-K. Files that were damaged on
    the device are named, and the exit code is 1 then. A run that still goes on gives its trace up
    to now. From an app that is no debug build it comes through the phone's Downloads.

    \b
    Examples:
      toolkit pull run1 -o runs/run1
      toolkit pull --device 192.168.1.20:5555 run1 -o runs/run1
      toolkit pull --device 192.168.1.20:5555 --app run1
    """
    target = output if output is not None else Path("runs") / check_name(run, "run")
    pulled: Pulled | Result
    with open_device(device) as phone, transfer_bar(f"pull {run}") as progress:
        if app and not debuggable(phone):
            if with_state:
                raise ToolkitError(
                    "the state stays in an app that is no debug build", "Leave --with-state away"
                )
            pulled = pull_export(phone, run, target, progress)
            check_pulled(target, run, phone)
            _write_card(target)
        else:
            source = inside_app(phone) if app else phone
            there = TrainingRun(Run(source, run))
            pulled = there.pull(target, with_state=with_state, progress=progress)
    if pulled.left:
        error_console.print(
            f"left on the device: {', '.join(pulled.left)}", markup=False, highlight=False
        )
    if as_json:
        found = {"run": run, "path": str(target), "files": pulled.files, "left": pulled.left}
        print_json({**found, "best_step": pulled.best_step})
        return
    listing = ", ".join(f"{name} {bytes_text(size)}" for name, size in pulled.files.items())
    console.print(f"{target}: {listing}", markup=False, highlight=False, soft_wrap=True)
    if pulled.best_step is not None:
        console.print(
            f"the adapter is that of step {pulled.best_step}, the best on held-out data",
            highlight=False,
        )
    console.print(f"next: toolkit analyze {target}", markup=False, highlight=False, soft_wrap=True)


def _write_card(folder: Path) -> None:
    from toolkit.exchange.card import write_run_card

    write_run_card(folder)
