"""`toolkit stop`: end a run that goes on by itself, with everything saved."""

import time
from typing import Annotated

import typer

from toolkit.api.devices import open_device
from toolkit.cli.common import print_json, say, say_next
from toolkit.cli.options import AsJson, OnDevice
from toolkit.device.layout import check_name
from toolkit.device.runs import Run
from toolkit.errors import ToolkitError

_POLL_SECONDS = 0.4


def stop(
    run: Annotated[str, typer.Argument(help="Name given to `toolkit train --out`.")],
    device: OnDevice = "local",
    app: Annotated[bool, typer.Option("--app", help="In the Android app on the phone.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a run with everything saved, and wait until it has ended.

    A step that has changed nothing yet is dropped, and computed when the run goes on; any other is
    brought to its end.

    \b
    Examples:
      toolkit stop run1
      toolkit stop run1 --device SERIAL
    """
    with open_device(device) as target:
        if app:
            from toolkit.device.app import AppRun, inside_app

            there: Run = AppRun(inside_app(target.connection), check_name(run, "run"))
        else:
            there = target.run(run).device_run
        resume = f"toolkit train {there.where} --out {run} --resume"
        if not there.alive():
            raise ToolkitError(f"run {run!r} does not run now", f"Go on with it: `{resume}`")
        there.request_stop()
        say("stopping ...")
        while there.alive():
            time.sleep(_POLL_SECONDS)
        status = there.status()
        if status == "failed":
            raise ToolkitError(f"run {run} failed: {there.failure()}", f"Go on: `{resume}`")
    if as_json:
        print_json({"run": run, "device": device, "status": status})
        return
    done = status == "completed"
    say(f"run {run} {'came to its end' if done else 'has ended'}; adapter and state are saved")
    say_next(f"toolkit pull {there.where} {run} -o runs/{run}" if done else resume)
