"""What trackers wrote, read back by what reads such files."""

import csv
from collections import defaultdict
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from toolkit.tracking.csv_file import CsvFile
from toolkit.tracking.points import TAGS
from toolkit.tracking.tensorboard import TensorBoard

Rows = dict[int, dict[str, float]]
_NAMES = {tag: name for name, tag in TAGS.items()}


def read_csv(path: Path) -> Rows:
    """Return the values of every step; none is there twice."""
    rows: Rows = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            assert step not in rows and (not rows or step > max(rows))
            rows[step] = {name: float(cell) for name, cell in row.items() if cell}
            del rows[step]["time_unix"]
    return rows


def read_tensorboard(folder: Path) -> Rows:
    """Return the same of TensorBoard's folder of a run."""
    found = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    rows: Rows = defaultdict(dict)
    for tag in found.Tags()[SCALARS]:
        steps = [event.step for event in found.Scalars(tag)]
        assert steps == sorted(set(steps)), tag
        for event in found.Scalars(tag):
            rows[event.step][_NAMES[tag]] = event.value
    return dict(sorted(rows.items()))


PLACES = {
    "csv": (lambda folder: CsvFile(folder / "steps.csv"), lambda f: read_csv(f / "steps.csv")),
    "tensorboard": (
        lambda folder: TensorBoard(folder / "board"),
        lambda f: read_tensorboard(f / "board/run1"),
    ),
}
"""By name: what makes a tracker in a folder, and what reads it as of run1."""
