"""The trainers of a node that run on its device, of this round and earlier ones."""

import time
from typing import Any

from toolkit.device import Device
from toolkit.device.runs import Run
from toolkit.device.saved_state import read_saved_state
from toolkit.federation.orders import NodeFailed

_STOP_SECONDS = 120.0


def runs_of_rounds(device: Device, base: str, last: int) -> list[Run]:
    """Return a node's runs of rounds up to `last`, where it begins a new one in every round."""
    names = {f"{base}-{number}" for number in range(1, last + 1)}
    entries = device.list(f"{device.root}/runs")
    return [Run(device, entry.name) for entry in entries if entry.name in names]


def end_trainer(run: Run) -> None:
    """End the trainer of a run, if it has one, with everything saved.

    Raises:
        NodeFailed: It did not end.
    """
    if not run.alive():
        return
    run.request_stop()
    end = time.monotonic() + _STOP_SECONDS
    while run.alive():
        if time.monotonic() > end:
            raise NodeFailed(f"its trainer did not end within {_STOP_SECONDS:.0f} s")
        time.sleep(0.2)


def last_words(run: Run) -> dict[str, Any]:
    """Return what a run's last session said at its end; nothing if it said nothing."""
    end: dict[str, Any] = {}
    for record in run.history(whole=True):
        end = {} if record["type"] == "run" else record if record["type"] == "end" else end
    return end


def stopped_before(run: Run, until: int) -> bool:
    """Whether a run that has ended was asked to, and did so before so many steps."""
    saved = read_saved_state(run.device, run.name)
    early = saved is None or saved.step < until
    return early and last_words(run).get("status") == "stopped" and run.exit_code() == 0
