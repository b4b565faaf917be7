"""What nodes say of a round, believed only as far as it makes sense."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from toolkit.device.parsers import printable
from toolkit.federation.orders import DIRECTIONS, NodeFailed, NodeReport

_MOST_COUNTED = 2**53  # what a float counts exactly: weights and bytes are summed
_MOST_MEASURED = 1e12  # nats, seconds
_LONGEST = 1000
_OPTIONAL = ("loss", "held_out_loss")


def reason_of(text: str) -> str:
    """Return a reason that a node wrote as a line of at most 500 printable characters."""
    return printable(" ".join(text.split()))


def report_of(said: Mapping[str, Any], node: str) -> NodeReport:
    """Return a report that another machine wrote, every field of its type and within bounds.

    Raises:
        NodeFailed: A field is not.
    """
    known: dict[str, Any] = {each.name: each.default for each in fields(NodeReport)[1:]}
    report = NodeReport(node, **{key: said.get(key, default) for key, default in known.items()})
    check_report(report)
    return report


def check_report(report: NodeReport) -> None:
    """Raise NodeFailed unless every number of a report is one that a node can have measured."""
    for each in fields(NodeReport)[1:]:
        value = getattr(report, each.name)
        if not _makes_sense(each.name, value, each.default):
            raise NodeFailed(f"its report makes no sense ({each.name}: {repr(value)[:60]})")


def _makes_sense(name: str, value: Any, default: Any) -> bool:
    if name == "held_out_error":
        return value is None or (isinstance(value, str) and len(value) <= _LONGEST)
    if name == "scalars":
        return value is None or (isinstance(value, Sequence) and all(map(_is_step, value)))
    if name == "directions":
        return value is None or (isinstance(value, Mapping) and _are_directions(value))
    if isinstance(default, int):
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_COUNTED
    return (value is None and name in _OPTIONAL) or (_is_number(value) and value >= 0)


def _are_directions(value: Mapping[str, Any]) -> bool:
    if value.keys() != set(DIRECTIONS):
        return False
    seed, layers, alone = value["seed"], value["layers"], value["b_alone"]
    named = isinstance(layers, str) and len(layers) <= _LONGEST and isinstance(alone, bool)
    counted = isinstance(seed, int) and 0 <= seed < _MOST_COUNTED
    numbers = (value[key] for key in ("weight_decay", "lora_plus_ratio", "sparsity"))
    return named and counted and all(map(_is_number, numbers))


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < _MOST_MEASURED and math.isfinite(value)


def _is_step(value: Any) -> bool:
    """Whether this is a learning rate and slopes; whether they may be that is seen elsewhere."""
    if not isinstance(value, list | tuple) or len(value) != 2 or not isinstance(value[1], list):
        return False
    return len(value[1]) <= _LONGEST and all(map(_is_number, (value[0], *value[1])))
