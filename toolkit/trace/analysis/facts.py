"""What the findings' rules look at, and what they return."""

from dataclasses import dataclass

from toolkit.trace.analysis.memory import Peak
from toolkit.trace.analysis.timing import Timing
from toolkit.trace.analysis.training import Storage, Training
from toolkit.trace.trace import Trace


@dataclass(frozen=True)
class Finding:
    """One thing to know. `code` is stable for machines, the texts are for people."""

    severity: str
    code: str
    title: str
    detail: str = ""


@dataclass(frozen=True)
class Facts:
    """What the rules below look at."""

    trace: Trace
    peak: Peak | None
    timing: Timing
    training: Training
    storage: Storage
    budget: int | None = None
