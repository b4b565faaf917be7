"""Reading estimates.jsonl, the list that a zeroth-order run leaves.

`runtime/engine/training/estimates.h` says what its lines are.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.settings.methods import METHODS

FILE = "estimates.jsonl"
_VERSION = 1
_SAME = ("method", "seed", "layers", "b_alone", "sparsity")


@dataclass(frozen=True)
class Estimate:
    """One step: its number, what was in effect, and the slopes along its directions."""

    step: int
    lr: float
    weight_decay: float
    lora_plus_ratio: float
    slopes: tuple[float, ...]


@dataclass(frozen=True)
class Estimates:
    """What a run's adapter follows from.

    Attributes:
        layers: That were trained, as `--layers` names them, or "all".
        adapter_sha256: Of the content of what the run started from or took last.
        b_alone: Whether every A stayed as it was.
        sparsity: Share of every tensor's values that stayed as they were.
        steps: From the first on, or from the first after it took an adapter.
        before: Steps of the run before these.
    """

    method: str
    seed: int
    layers: str
    adapter_sha256: str
    b_alone: bool
    sparsity: float
    steps: tuple[Estimate, ...]
    before: int = 0


def read_estimates(run: Path) -> Estimates:
    """Return the list of a run that was pulled; a last line that was torn does not count.

    Raises:
        ToolkitError: There is none, or it is damaged.
    """
    path = run / FILE if run.is_dir() else run
    if not path.is_file():
        raise ToolkitError(
            f"{run} has no {FILE}", "Only runs of zeroth-order methods can be replayed"
        )
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    if not lines:
        raise ToolkitError(f"{path} holds nothing yet", "Pull the run again once it has saved")
    try:
        return _parse([json.loads(line) for line in lines])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ToolkitError(f"{path} is damaged: {error}", "Pull the run again") from error


def _parse(records: list[dict[str, Any]]) -> Estimates:
    first = session = records[0]
    steps: list[Estimate] = []
    before = 0
    for record in records:
        if record["type"] == "session":
            _check(first, record)
            again = record.get("taken") == before + len(steps) and record is not first
            if again or record["adapter_sha256"] != session["adapter_sha256"]:
                _check_taken(record)
                before, steps = before + len(steps), []
            session = record
            continue
        if record["step"] != before + len(steps) + 1:
            raise ValueError(f"step {record['step']} comes after step {before + len(steps)}")
        slopes = tuple(map(float, record["g"]))
        if not slopes or not all(map(math.isfinite, slopes)):
            raise ValueError(f"step {record['step']} has no slopes that are numbers")
        decay, ratio = float(session["weight_decay"]), float(session["lora_plus_ratio"])
        steps.append(Estimate(record["step"], float(record["lr"]), decay, ratio, slopes))
    facts = {name: session[name] for name in (*_SAME, "adapter_sha256")}
    return Estimates(**facts, steps=tuple(steps), before=before)


def _check_taken(session: dict[str, Any]) -> None:
    """Refuse what does not follow from the adapter taken: limits are those of the first."""
    if session["sparsity"]:
        raise ToolkitError(
            "a run of sparse-mezo that took another adapter moves the small values of its first",
            "Such a run cannot be replayed",
        )


def _check(first: dict[str, Any], session: dict[str, Any]) -> None:
    if session["version"] != _VERSION:
        raise ValueError(f"it has version {session['version']}, this toolkit reads {_VERSION}")
    if not METHODS[session["method"]].updates:
        raise ValueError(f"{session['method']} is no zeroth-order method")
    for name in _SAME:
        if session[name] != first[name]:
            raise ValueError(f"two sessions differ in {name}")
