"""TensorBoard, through its own writer."""

import re
import time
from os import PathLike
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.tracking.points import TAGS, Mark, Point
from toolkit.tracking.tracker import Tracker, library

_PATTERN = "*tfevents*"
_SECOND = re.compile(r"tfevents\.(\d{1,18})\.")
_CLOCKS_DIFFER = 3  # seconds; what lies further ahead was named by another clock
_NAMES = {tag: name for name, tag in TAGS.items()}


class TensorBoard(Tracker):
    """Scalars of every step in FOLDER/RUN, to look at with `tensorboard --logdir FOLDER`.

    Args:
        folder: Holds a folder for every run; one that has the same run is brought up to date.

    Raises:
        ToolkitError: The library is not installed.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._writers = _part("summary.writer.event_file_writer")
        self._events = _part("compat.proto.event_pb2")
        self._summaries = _part("compat.proto.summary_pb2")
        self.folder = Path(folder)
        self.words = ("--tensorboard", str(folder))
        self._run = self.folder
        self._writer: Any = None

    def place(self, name: str) -> str:
        self._run = self.folder / name
        try:
            self._run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ToolkitError(
                f"{self._run} cannot be made: {error.strerror}", "Name another --tensorboard"
            ) from error
        return str(self._run)

    def marks(self) -> list[Mark]:
        if next(self._run.glob(_PATTERN), None) is None:
            return []
        reader = _part("backend.event_processing.event_accumulator")
        found = reader.EventAccumulator(str(self._run), size_guidance={reader.SCALARS: 0}).Reload()
        points: dict[int, Point] = {}
        for tag in found.Tags()[reader.SCALARS]:
            for event in found.Scalars(tag):
                # A value that no run of ours has makes it another run's.
                point = Point(event.step, event.wall_time, {_NAMES.get(tag, tag): event.value})
                points[point.step] = points.get(point.step, point).joined(point)
        return [points[step].mark for step in sorted(points)]

    def log(self, point: Point) -> None:
        value = self._summaries.Summary.Value
        values = [
            value(tag=TAGS.get(name, name), simple_value=v) for name, v in point.values.items()
        ]
        summary = self._summaries.Summary(value=values)
        self._add(wall_time=point.time, step=point.step, summary=summary)

    def take_back(self, step: int) -> None:
        # TensorBoard's own word for a restart: what is there from this step on is left out.
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._add(step=step + 1, session_log=start)

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add(self, **fields: Any) -> None:
        if self._writer is None:
            self._wait_for_a_later_name()
            self._writer = self._writers.EventFileWriter(str(self._run))
        self._writer.add_event(self._events.Event(**fields))

    def _wait_for_a_later_name(self) -> None:
        """Wait until a new file comes after those that are there.

        Files are read in the order of their names, which tell the second, and no more of the time.
        """
        found = (_SECOND.search(path.name) for path in self._run.glob(_PATTERN))
        last = max((int(name[1]) for name in found if name), default=0)
        while 0 <= last - int(time.time()) < _CLOCKS_DIFFER:
            time.sleep(0.05)


def _part(module: str) -> Any:
    return library(f"tensorboard.{module}", "tensorboard", "--tensorboard")
