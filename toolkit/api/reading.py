"""What runs were, from the traces that came back."""

from os import PathLike
from pathlib import Path

from toolkit.trace.analysis import Analysis, read_analysis
from toolkit.trace.comparison import RunComparison, compare_runs


def analyze(run: str | PathLike[str], *, budget: int | None = None) -> Analysis:
    """Return where memory (bytes) and time (seconds) of a run went; a notebook shows its report.

    Args:
        run: A folder that `pull` wrote, or a trace.jsonl.
        budget: Bytes of memory that it was to stay within; more is one of the findings.

    Raises:
        ToolkitError: There is no trace that can be read.

    Example:
        >>> analysis = toolkit.analyze("runs/run1")
        >>> analysis.status, analysis.peak.bytes > 1_000_000
        ('completed', True)
    """
    return read_analysis(Path(run), budget)


def compare(
    first: str | PathLike[str] | Analysis, second: str | PathLike[str] | Analysis
) -> RunComparison:
    """Return what grew from the first run to the second, and which settings differ.

    Raises:
        ToolkitError: A trace cannot be read.

    Example:
        >>> comparison = toolkit.compare("runs/run1", "runs/run1")
        >>> comparison.peak.difference
        0
    """
    runs = [run if isinstance(run, Analysis) else analyze(run) for run in (first, second)]
    return compare_runs(*runs)
