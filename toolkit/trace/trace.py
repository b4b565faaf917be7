"""A trace in memory: what was read, in compact tables, and what was left out."""

from dataclasses import dataclass, field
from pathlib import Path

from toolkit.trace.operators import OperatorTimes
from toolkit.trace.schema import (
    CATEGORIES,
    Begin,
    End,
    Evaluation,
    Event,
    Io,
    Memory,
    Run,
    Smaps,
)
from toolkit.trace.table import Table

PHASE_ORIGIN = ("line", "operators", "operators_at")
"""Columns that depend on where in the file a phase was."""

PHASE_COLUMNS = (
    *PHASE_ORIGIN,
    "step",
    "phase",
    "layer",
    "begin",
    "end",
    *Memory.__struct_fields__,
    *Io.__struct_fields__,
    *(f"ledger_{name}" for name in CATEGORIES),
)
STEP_COLUMNS = (
    "line",
    "step",
    "t",
    "seconds",
    "loss",
    "lr",
    "tokens",
    "grad_norm",
    "peak",
    "written_bytes",
    "spilled_bytes",
    "state_bytes",
)
SAMPLE_COLUMNS = (
    "t",
    *Memory.__struct_fields__,
    "pss",
    "battery_level",
    "battery_celsius",
    "charging",
    "celsius",
)
NONE = -1
"""Step or layer of a phase that has none."""


@dataclass(frozen=True)
class Problem:
    """One line that was left out of the analysis, and why."""

    line: int
    reason: str


@dataclass
class LeftOut:
    """Everything in the file that did not take part in the analysis.

    `problems` holds the first ones in the order of their lines, `lines` counts all of them.
    """

    problems: list[Problem] = field(default_factory=list)
    lines: int = 0
    truncated_line: int | None = None
    duplicates: int = 0
    superseded_steps: int = 0
    reordered: int = 0
    over_limit: int = 0

    def __bool__(self) -> bool:
        return bool(self.lines or self.truncated_line or self.duplicates or self.over_limit)


@dataclass(frozen=True)
class Session:
    """One start of the trainer; a resumed run has several. `offset` is added to its times, ns."""

    run: Run
    line: int
    offset: int


@dataclass
class Trace:
    """A whole trace.

    Attributes:
        path: The file it was read from.
        sessions: At least one. Times of all tables run on from one session to the next.
        phases: int64 table of `PHASE_COLUMNS`, sorted by begin; phase is an index into
            `schema.PHASES`, step and layer are `NONE` where absent; ns, KiB, bytes.
        operators: Time by operator; the columns operators and operators_at lead there.
        steps: float64 table of `STEP_COLUMNS`, one row per step, sorted by step; NaN is unknown.
        samples: float64 table of `SAMPLE_COLUMNS`, sorted by t; NaN is unknown.
        last_begin: The last step start, with its line: where a killed run ended.
    """

    path: Path
    sessions: list[Session]
    phases: Table
    operators: OperatorTimes
    steps: Table
    samples: Table
    evaluations: list[Evaluation]
    events: list[Event]
    smaps: list[Smaps]
    end: End | None
    last_begin: Begin | None
    left_out: LeftOut
    lines: int

    @property
    def run(self) -> Run:
        """The record of the session that came last: its settings are those in force."""
        return self.sessions[-1].run
