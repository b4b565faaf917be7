"""The analysis of one trace, as data. Everything that is shown or compared comes from here."""

from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from toolkit.trace.analysis.facts import Facts, Finding
from toolkit.trace.analysis.findings import find_findings
from toolkit.trace.analysis.mappings import MappingGroup, RestPart, group_mappings
from toolkit.trace.analysis.memory import Part, Peak, Place, find_peak
from toolkit.trace.analysis.timing import (
    LayerTotal,
    OperatorTotal,
    PhaseTotal,
    Timing,
    analyze_timing,
)
from toolkit.trace.analysis.training import Storage, Training, analyze_storage, analyze_training
from toolkit.trace.published import Comparison, compare_with_published
from toolkit.trace.reader import read_trace
from toolkit.trace.trace import Trace

__all__ = [
    "Analysis",
    "Finding",
    "LayerTotal",
    "MappingGroup",
    "OperatorTotal",
    "Part",
    "Peak",
    "PhaseTotal",
    "Place",
    "RestPart",
    "Storage",
    "Timing",
    "Training",
    "analyze_trace",
    "read_analysis",
]


@dataclass(frozen=True)
class Analysis:
    """What one run did. `peak` is None for a trace without any memory figure."""

    trace: Trace
    peak: Peak | None
    timing: Timing
    training: Training
    storage: Storage
    published: Comparison | None
    mappings: list[MappingGroup]
    findings: list[Finding]

    @property
    def status(self) -> str:
        """completed, stopped, failed, or unfinished: killed, or still going when it was pulled."""
        return self.trace.end.status if self.trace.end else "unfinished"

    @property
    def title(self) -> str:
        """The model, or the folder's name where the trace does not tell it."""
        return self.trace.run.model or self.trace.path.parent.name or self.trace.path.name

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; numbers that are not finite become null."""
        trace = self.trace
        steps = trace.steps
        curve = zip(steps["step"].tolist(), steps["loss"].tolist(), strict=True)
        content = {
            "trace": str(trace.path),
            "status": self.status,
            "reason": trace.end.reason if trace.end else None,
            "run": to_builtins(trace.run),
            "sessions": len(trace.sessions),
            "peak": _peak_to_json(self.peak),
            "timing": asdict(self.timing),
            "training": {
                **{k: v for k, v in vars(self.training).items() if k != "evaluations"},
                "evaluations": to_builtins(self.training.evaluations),
                "loss": [[int(step), loss] for step, loss in curve],
            },
            "storage": asdict(self.storage),
            "published": None if self.published is None else asdict(self.published),
            "mappings": [asdict(group) for group in self.mappings],
            "findings": [asdict(finding) for finding in self.findings],
            "left_out": asdict(trace.left_out),
        }
        return {name: _finite(value) for name, value in content.items()}

    def _repr_html_(self) -> str:
        from toolkit.api.notebook import framed
        from toolkit.trace.report import render_report

        return framed(render_report(self))


def analyze_trace(trace: Trace, budget: int | None = None) -> Analysis:
    """Return the analysis of a trace; a peak above `budget` bytes is one of its findings."""
    peak = find_peak(trace)
    timing = analyze_timing(trace)
    training = analyze_training(trace)
    storage = analyze_storage(trace)
    return Analysis(
        trace=trace,
        peak=peak,
        timing=timing,
        training=training,
        storage=storage,
        published=compare_with_published(trace.run),
        mappings=group_mappings(trace.smaps),
        findings=find_findings(Facts(trace, peak, timing, training, storage, budget)),
    )


def read_analysis(run: str | Path, budget: int | None = None) -> Analysis:
    """Read and analyze the trace of a run directory or file.

    Raises:
        ToolkitError: As `read_trace`.
    """
    return analyze_trace(read_trace(run), budget)


def _peak_to_json(peak: Peak | None) -> dict[str, Any] | None:
    if peak is None:
        return None
    value = asdict(peak)
    del value["row"]  # only means something beside the tables
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value
