"""The device's part in federations by scalars: the round's adapter is made there from the last one,
and of what was trained only its numbers come back.
"""

import json
from collections.abc import Callable
from typing import Any

from toolkit.device.base import Device
from toolkit.device.commands import run_trainer, scratch_folder, send_file
from toolkit.device.errors import DeviceLost
from toolkit.device.layout import Deployed
from toolkit.device.runs import Run
from toolkit.device.runtime import find_runtime
from toolkit.device.shell import quote
from toolkit.errors import ToolkitError
from toolkit.federation.marks import read_mark
from toolkit.federation.orders import DIRECTIONS, NodeFailed, Order
from toolkit.replaying.estimates import FILE

_DIGITS = 16
_MORE_LINES = 8  # of sessions, between the steps


def remake(
    device: Device,
    bundle: Deployed,
    node: str,
    order: Order,
    seconds: float,
    say: Callable[[str], None],
) -> str | None:
    """Have a device make the adapter that a round begins with, and return its path there.

    Returns:
        None where the device has not what it is made from, or came to another adapter.
    """
    replayed = order.replayed
    if replayed is None:
        return None
    path = f"{device.root}/adapters/{order.sha256[:_DIGITS]}.ptd"
    if device.stat(path) is not None:
        return path  # of an attempt that was cut off
    mark = read_mark(device, node)
    base = f"{bundle.path}/adapter.ptd" if replayed.own else ""
    if not replayed.own and mark is not None and mark.adapter == replayed.base:
        base = mark.sent
    if not base or device.stat(base) is None:
        return None
    device.make_directory(f"{device.root}/adapters")
    with scratch_folder(device) as folder:
        moves = f"{folder}/moves.ptd"
        send_file(device, replayed.moves, moves)
        words = ("--bundle", bundle.path, "--adapter", base, "--moves", moves, "--out")
        try:
            runtime = find_runtime(device)
            for _ in run_trainer(device, runtime, "replay", *words, f"{path}.new", seconds=seconds):
                pass
        except DeviceLost:
            raise
        except ToolkitError as error:
            say(f"the adapter has to be sent as a whole: {error.cause}")
            return None
    device.rename(f"{path}.new", path)
    return path


def scalars_of(
    run: Run, wanted: range
) -> tuple[list[tuple[float, list[float]]], dict[str, Any] | None]:
    """Return learning rate and slopes of a run's last steps, and what their directions follow from,
    by the list that it keeps: its session is written anew where a round begins.

    Raises:
        NodeFailed: The list lacks one of them.
    """
    lines = f"tail -n {len(wanted) + _MORE_LINES} {quote(f'{run.path}/{FILE}')}"
    found: dict[int, tuple[float, list[float]]] = {}
    directions: dict[str, Any] | None = None
    for line in run.device.shell(lines).output.split(b"\n"):
        try:
            step = json.loads(line)
            if step["type"] == "step":
                found[int(step["step"])] = (float(step["lr"]), [float(g) for g in step["g"]])
            elif step["type"] == "session":
                directions = {key: step[key] for key in DIRECTIONS}
        except (ValueError, TypeError, KeyError):
            continue  # a line that was cut, or another kind
    missing = [number for number in wanted if number not in found]
    if missing:
        raise NodeFailed(f"its list of estimates lacks step {missing[0]}")
    return [found[number] for number in wanted], directions
