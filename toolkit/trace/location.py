"""Where the trace of a run is."""

from pathlib import Path

from toolkit.errors import ToolkitError
from toolkit.trace.text import clean

TRACE_NAME = "trace.jsonl"


def find_trace(run: str | Path) -> Path:
    """Return the trace file of a run: `run` itself, or `trace.jsonl` inside the directory."""
    path = Path(run)
    try:
        if path.is_dir():
            path = path / TRACE_NAME
        if path.is_file():
            return path
    except (OSError, ValueError) as error:
        raise ToolkitError(f"no trace at {clean(str(run))!r} ({error})") from error
    raise ToolkitError(
        f"no trace at {clean(str(path))}",
        f"Give a run directory with a {TRACE_NAME} inside, or the trace file itself",
    )
