"""Rounds by scalars over Flower: what goes to a node in place of the adapter.

    scalars  ConfigRecord: "sha256", of the content of the round's adapter, hexadecimal; "moves", a
             file, with "base" and "own", as `Replayed` has them; no moves: it is the bundle's own

What comes back in place of an adapter is in the report. A node that did not come through the last
round gets the whole adapter. So does in the same round one that answers that it lacks what it is
made from:

    lacking  ConfigRecord, empty
"""

from pathlib import Path

from flwr.app import ConfigRecord, RecordDict

from toolkit.errors import ToolkitError
from toolkit.federation.orders import Order, Replayed

KEY, _LACKING = "scalars", "lacking"


def spares(order: Order, node: str) -> bool:
    """Whether a node of a federation by scalars can do without the adapter."""
    if order.replayed is None:
        return order.adapter is None
    return node in order.replayed.nodes


def record_of(order: Order) -> ConfigRecord:
    """Return what a node is sent that can do without the adapter."""
    replayed = order.replayed
    if replayed is None:
        return ConfigRecord({"sha256": order.sha256})
    moves = replayed.moves.read_bytes()
    return ConfigRecord({
        "sha256": order.sha256, "base": replayed.base, "own": replayed.own, "moves": moves,
    })  # fmt: skip


def lacking() -> RecordDict:
    """Return the answer of a node that needs the whole adapter."""
    return RecordDict({_LACKING: ConfigRecord()})


def lacks(asked: RecordDict, answer: RecordDict) -> bool:
    """Whether a node that was asked without the adapter needs it."""
    return KEY in asked.config_records and _LACKING in answer.config_records


def order_in(
    content: RecordDict, round: int, steps: int, seconds: float, folder: Path
) -> Order | None:
    """Return the order in a message; None where it has the adapter.

    Args:
        folder: For what comes with it, and what comes back.

    Raises:
        ToolkitError: It makes no sense.
    """
    record = content.config_records.get(KEY)
    if record is None:
        return None
    try:
        sha256, moves = record["sha256"], record.get("moves")
        if not isinstance(sha256, str) or not sha256.isalnum():
            raise ValueError("sha256")
        if moves is None:
            return Order(round, None, sha256, steps, seconds, folder)
        if not isinstance(moves, bytes):
            raise ValueError("moves")
        path = folder / "moves.ptd"
        path.write_bytes(moves)
        replayed = Replayed(path, str(record["base"]), bool(record["own"]))
    except (KeyError, ValueError) as error:
        raise ToolkitError(f"the message makes no sense ({error})") from error
    return Order(round, None, sha256, steps, seconds, folder, replayed)
