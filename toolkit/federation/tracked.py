"""Rounds in trackers (toolkit.tracking): every round is a step, and what it came to its values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from toolkit.federation.orders import NodeReport
from toolkit.federation.shown import Shown
from toolkit.tracking.feed import Feed
from toolkit.tracking.points import Point

_GROUP = "federation/"


class Tracked(Shown):
    """Tells another what happens, and trackers what rounds came to.

    The held-out loss of a round's adapter is measured when the next one begins, and comes then.
    """

    def __init__(self, inner: Shown, feed: Feed) -> None:
        self._inner, self._feed = inner, feed

    def goes_on(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._inner.goes_on(records)
        self._add(point for record in records for point in points_of(record))

    def begins(self, number: int, rounds: int, nodes: int) -> None:
        self._inner.begins(number, rounds, nodes)

    def came(self, number: int, report: NodeReport) -> None:
        self._inner.came(number, report)

    def failed(self, node: str, reason: str) -> None:
        self._inner.failed(node, reason)

    def finished(self, record: Mapping[str, Any]) -> None:
        self._inner.finished(record)
        self._add(points_of(record))

    def ended(self, records: Sequence[Mapping[str, Any]], final: Mapping[str, Any]) -> None:
        self._add(_measured(final))
        self._inner.ended(records, final)

    def say(self, line: str) -> None:
        self._inner.say(line)

    def _add(self, points: Iterator[Point]) -> None:
        for point in points:
            self._feed.add(point)
        self._feed.flush()


def points_of(record: Mapping[str, Any]) -> Iterator[Point]:
    """Yield the points of a round's record: of the adapter that it began with, and of the round."""
    yield from _measured(record)
    nodes = record["nodes"]
    all_nodes = [*nodes, *record.get("failed", ())]
    values = {
        "loss": record["loss"],
        "peak_bytes": max((node["peak_bytes"] for node in nodes), default=None),
        f"{_GROUP}product_bias": record["product_bias"],
        f"{_GROUP}nodes": len(nodes),
        f"{_GROUP}failures": len(record["failures"]),
        f"{_GROUP}labelled_tokens": sum(node["labelled"] for node in nodes),
        f"{_GROUP}seconds": record["seconds"],
        f"{_GROUP}bytes_to_nodes": sum(node.get("sent_bytes", 0) for node in all_nodes),
        f"{_GROUP}bytes_from_nodes": sum(node.get("received_bytes", 0) for node in all_nodes),
    }
    for name in ("down_bytes", "up_bytes", "hot_seconds"):
        if some := sum(node.get(name, 0) for node in all_nodes):
            values[f"{_GROUP}{name}"] = some
    known = {name: float(value) for name, value in values.items() if value is not None}
    yield Point(record["round"], record["time_unix"] + record["seconds"], known)


def _measured(record: Mapping[str, Any]) -> Iterator[Point]:
    """Yield what was measured of the adapter that a round began with, if anything was."""
    loss = record.get("held_out_loss")
    if loss is not None:
        yield Point(record["round"] - 1, record["time_unix"], {"held_out_loss": float(loss)})
