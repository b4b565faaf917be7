"""The trainer of this machine, run as a process."""

import json
import subprocess
from pathlib import Path
from typing import Any

from toolkit.runtime import native_directory


def run_trainer(*arguments: Any, check: bool = True) -> list[dict[str, Any]]:
    """Run a trainer command and return the JSON objects it printed."""
    command = [str(native_directory("trainer") / "trainer"), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{result.stdout}\n{result.stderr}")
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def read_trace(run: Path, kind: str) -> list[dict[str, Any]]:
    """Return a run's trace records of one type."""
    records = map(json.loads, (run / "trace.jsonl").read_text().splitlines())
    return [record for record in records if record["type"] == kind]
