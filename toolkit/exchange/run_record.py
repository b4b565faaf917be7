"""What a pulled run's trace says of how it began, without reading all of it."""

from pathlib import Path

import msgspec

from toolkit.trace.schema import Run

_TRACE = "trace.jsonl"
_FIRST_LINE = 256 * 1024


def read_run_record(run: Path) -> Run:
    """Return the first record of a run's trace; an empty one where there is no run."""
    try:
        with (run / _TRACE).open("rb") as file:
            line = file.read(_FIRST_LINE).partition(b"\n")[0]
        return msgspec.json.decode(line, type=Run)
    except (OSError, msgspec.MsgspecError):
        return Run(version=0)
