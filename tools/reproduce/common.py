"""What the reproductions share: results that are kept as they come, runs, pictures.

A script ends with results NAME.json and a picture NAME.png in its folder. What was measured is
written at once and not measured again, so a script that was stopped goes on where it was; remove
the JSON, or a key of it, to measure anew.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from toolkit.files import atomic_file
from tools.bench import harness

FOLDER = harness.ROOT / ".cache" / "reproduce"


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every script has."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--output", type=Path, default=FOLDER, help="folder (%(default)s)")
    result.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    return result


class Results:
    """What a script has measured so far, by key."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.json"
        self.picture = folder / f"{name}.png"
        self.values: dict[str, Any] = {}
        if self.path.is_file():
            self.values = json.loads(self.path.read_text())["results"]

    def of(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return what is known under a key, or measure it and keep it."""
        if key not in self.values:
            print(f"measuring {key} ...", file=sys.stderr)
            machine = harness.Machine()
            value = measure()
            self.values[key] = {"value": value, "machine": machine.report()}
            with atomic_file(self.path, "w") as file:
                json.dump({"results": self.values}, file, indent=1)
        return self.values[key]["value"]


def measured(case: harness.Case, steps: int, threads: int, *flags: str) -> dict[str, Any]:
    """Return peak in MB, median seconds of a step and the losses of a run of its own."""
    run = harness.train(case, steps, threads, *flags)
    return {
        "peak_mb": run.peak_mb,
        "seconds": statistics.median(run.seconds),
        "losses": [step["loss"] for step in run.of("step")],
    }


def axes(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """Return a figure and its axes [rows, columns]."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=size, squeeze=False)


def save(figure: Any, path: Path) -> None:
    """Write a picture."""
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(path, file=sys.stderr)
