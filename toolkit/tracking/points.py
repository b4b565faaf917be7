"""What is tracked of a run: points, made of the records of its trace, each once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.device.watching import number, whole

TAGS = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "tokens_per_second": "speed/tokens_per_second",
    "peak_bytes": "memory/peak_bytes",
    "held_out_loss": "held_out/loss",
}
"""What a point may hold, and what it is called where names have groups."""

Mark = tuple[int, float, frozenset[str]]
"""What tells a point from others: its step, its time, the names of its values."""


@dataclass(frozen=True)
class Point:
    """What is known of one step.

    Attributes:
        step: Its number; 0 is before the first.
        time: When it ended, in Unix seconds by the device's clock.
        values: By the names of `TAGS`, others as they are called there: losses in nats, the peak in
            bytes; NaN where the trace has no number.
    """

    step: int
    time: float
    values: Mapping[str, float]

    @property
    def mark(self) -> Mark:
        return self.step, self.time, frozenset(self.values)

    def joined(self, later: "Point") -> "Point":
        """Return the point that has the values of another of the same step, too."""
        return Point(self.step, self.time, {**self.values, **later.values})


class Line:
    """The points of a run in their order, from records as they come.

    A run that was killed goes on where it was saved and repeats the steps after that, so the record
    of its next part takes the earlier ones back.
    """

    def __init__(self) -> None:
        self._began = self._time = 0.0
        self._step = self._evaluated = -1

    def take(self, record: Mapping[str, Any]) -> tuple[int | None, Point | None]:
        """Return after which step all is taken back, and the point that is added, if either is."""
        kind = record["type"]
        if kind == "run":
            return self._part(record), None
        if kind == "step":
            return None, self._trained(record)
        if kind == "evaluation":
            return None, self._held_out(record)
        return None, None

    def _part(self, record: Mapping[str, Any]) -> int:
        self._began = self._time = number(record.get("time_unix"), 0.0)
        # A part that says nothing began anew; what was evaluated before its first step stays.
        last = whole(record.get("resumed_from")) or 0
        self._step, self._evaluated = min(self._step, last), min(self._evaluated, last)
        return last

    def _trained(self, record: Mapping[str, Any]) -> Point | None:
        step = whole(record.get("step"))
        if step is None or step <= self._step:
            return None
        self._step = step
        self._time = self._began + number(record.get("t"), 0.0) / 1e9
        seconds, tokens = number(record.get("seconds")), number(record.get("tokens"))
        values = {
            "loss": number(record.get("loss")),
            "learning_rate": number(record.get("lr")),
            "grad_norm": number(record.get("grad_norm")),
            "tokens_per_second": tokens / seconds if seconds > 0 else float("nan"),
            "peak_bytes": 1024 * (whole(record.get("peak")) or 0),
        }
        return Point(step, self._time, values)

    def _held_out(self, record: Mapping[str, Any]) -> Point | None:
        step = whole(record.get("step"))
        if step is None or step <= self._evaluated:
            return None
        self._evaluated = step
        return Point(step, self._time, {"held_out_loss": number(record.get("loss"))})
