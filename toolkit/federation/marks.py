"""What a node's device remembers of the round that it is in: ROOT/federations/NODE.json.

It is written before the trainer starts. Whoever comes back after a kill or a cut finds in it from
which step the round began there, and so neither trains a step of it twice nor hands it out again.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass

from toolkit.device.base import Device
from toolkit.errors import ToolkitError
from toolkit.federation.orders import NodeFailed
from toolkit.sealed_json import is_sealed, seal

_LIMIT = 1 << 16


@dataclass(frozen=True)
class Mark:
    """A round on one node.

    Attributes:
        round: Its number, from 1.
        adapter: SHA-256 of the content of the adapter that it begins with.
        begin: Steps that the node's run had done before it.
        trace_offset, log_offset: Bytes that the run's trace and log had then.
        sent: Path of the adapter on the device if it was sent for this round, else nothing.
    """

    round: int
    adapter: str
    begin: int
    trace_offset: int
    log_offset: int
    sent: str

    def is_of(self, round: int, adapter: str) -> bool:
        """Whether it is of this round with this adapter."""
        return (self.round, self.adapter) == (round, adapter)


def read_mark(device: Device, node: str) -> Mark | None:
    """Return what a device remembers of a node, None where there is nothing that can be read."""
    try:
        content = json.loads(device.read(_path(device, node), limit=_LIMIT))
        if not isinstance(content, dict) or not is_sealed(content):
            return None
        return Mark(**{name: content[name] for name in Mark.__dataclass_fields__})
    except (ValueError, KeyError, TypeError):
        return None


def past_of(device: Device, node: str, round: int) -> Mark | None:
    """Return what a device remembers when it is asked for a round.

    Raises:
        NodeFailed: It was in a later one: the order comes late, and nothing is done for it.
    """
    mark = read_mark(device, node)
    if mark is not None and mark.round > round:
        raise NodeFailed(f"it is asked for round {round}, and was in round {mark.round} already")
    return mark


def write_mark(device: Device, node: str, mark: Mark) -> None:
    """Have a device remember a round."""
    device.make_directory(f"{device.root}/federations")
    device.write(_path(device, node), json.dumps(seal(asdict(mark))).encode())


def remove_sent(device: Device, path: str) -> None:
    """Remove an adapter of an earlier round, if the device still answers."""
    if path.startswith(f"{device.root}/adapters/"):
        with suppress(ToolkitError):  # `toolkit list` finds it, and it takes nothing but room
            device.remove(path)


def _path(device: Device, node: str) -> str:
    return f"{device.root}/federations/{node}.json"
