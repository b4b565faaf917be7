"""From a run's trace to trackers: every point once, whatever was tracked before."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.tracking.points import Line, Point
from toolkit.tracking.tracker import Tracked, Tracker


class Feed:
    """Gives the points of a run to trackers as its records come.

    Before the first point, what a place has is held against the run: points that it has already are
    not given again, those of steps that the run has repeated since are taken back.

    Attributes:
        identity: Finds the run's random id once there is a point.
    """

    def __init__(self, name: str, trackers: Sequence[Tracker]) -> None:
        """Get ready for a run of this name.

        Raises:
            ToolkitError: A place cannot be used.
        """
        self._name = name
        self.identity: Callable[[], str] = lambda: ""
        self._settings: Mapping[str, Any] = {}
        self._trackers = list(trackers)
        self._places = [tracker.place(name) for tracker in self._trackers]
        self._line = Line()
        self._waiting: list[Point] = []
        self._given = -1
        self._caught_up = False

    def __bool__(self) -> bool:
        return bool(self._trackers)

    @property
    def words(self) -> str:
        """The flags of `toolkit train` that stand for its trackers."""
        return shlex.join(word for tracker in self._trackers for word in tracker.words)

    def require_free(self) -> None:
        """Raise unless nothing is in any place yet, as a new run needs it."""
        for tracker, place in zip(self._trackers, self._places, strict=True):
            if tracker.marks():
                raise _taken(place)

    def require_same(self, history: Iterable[Mapping[str, Any]]) -> None:
        """Take the records that a run has so far; raise if a place has another run's."""
        for record in history:
            self.take(record)
        for tracker, place in zip(self._trackers, self._places, strict=True):
            _check_same(tracker, self._waiting, place)

    def take(self, record: Mapping[str, Any]) -> None:
        """Take a record of the trace."""
        if record["type"] == "run" and isinstance(record.get("settings"), dict):
            self._settings = record["settings"]
        back, point = self._line.take(record)
        if back is not None:
            self._take_back(back)
        if point is not None:
            self.add(point)

    def add(self, point: Point) -> None:
        """Take a point that did not come from a trace; its step is not below the last one's."""
        if self._waiting and self._waiting[-1].step == point.step:
            self._waiting[-1] = self._waiting[-1].joined(point)
        else:
            self._waiting.append(point)

    def flush(self) -> None:
        """Give what came since the last time.

        Raises:
            ToolkitError: A place has another run's points, or cannot be written to.
        """
        if not self._caught_up and self._waiting:
            tracked = Tracked(self._name, self.identity(), self._settings)
            for tracker, place in zip(self._trackers, self._places, strict=True):
                tracker.begin(tracked)
                _catch_up(tracker, self._waiting, place)
            self._caught_up = True
        else:
            for point in self._waiting:
                for tracker in self._trackers:
                    tracker.log(point)
        if self._waiting:
            self._given = self._waiting[-1].step
            self._waiting.clear()
            for tracker in self._trackers:
                tracker.flush()

    def close(self) -> None:
        """Give what is left and let go of the places."""
        try:
            self.flush()
        finally:
            for tracker in self._trackers:
                tracker.close()

    def _take_back(self, step: int) -> None:
        self._waiting = [point for point in self._waiting if point.step <= step]
        if self._given > step:
            for tracker in self._trackers:
                tracker.take_back(step)
            self._given = step


def _check_same(tracker: Tracker, points: Sequence[Point], place: str) -> None:
    """Raise unless a place is empty or has what begins as the run does."""
    there = tracker.marks()
    first = points[0].mark[:2] if points else None
    if there and there[0][:2] != first:
        raise _taken(place)


def _catch_up(tracker: Tracker, points: Sequence[Point], place: str) -> None:
    """Bring a place to what the run has by now."""
    _check_same(tracker, points, place)
    there, same = tracker.marks(), 0
    while same < min(len(there), len(points)) and there[same] == points[same].mark:
        same += 1
    if same < len(there):
        tracker.take_back(points[same - 1].step if same else -1)
    for point in points[same:]:
        tracker.log(point)


def _taken(place: str) -> ToolkitError:
    return ToolkitError(f"{place} has points of another run", "Name another place, or remove it")
