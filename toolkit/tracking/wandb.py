"""Weights & Biases, through its library."""

from typing import Any

from toolkit.errors import ToolkitError
from toolkit.tracking.points import TAGS, Point
from toolkit.tracking.tracker import Tracked, Tracker, library


class Wandb(Tracker):
    """A run of a W&B project, under the name it has on the device.

    The service goes by a run's random id: one that is resumed goes on there, and steps that the
    service has are not sent again, not even those that a killed run repeats.

    Args:
        project: Its name.

    Raises:
        ToolkitError: The library is not installed.
    """

    def __init__(self, project: str) -> None:
        self._library = library("wandb", "wandb", "--wandb")
        self.project = project
        self.words = ("--wandb", project)
        self._tracked: Tracked | None = None
        self._run: Any = None
        self._last: Point | None = None  # that was logged

    def place(self, name: str) -> str:
        return f"the project {self.project} of W&B"

    def begin(self, run: Tracked) -> None:
        self._tracked = run

    def log(self, point: Point) -> None:
        run = self._opened()
        had = self._last.values if self._last and self._last.step == point.step else {}
        new = {TAGS[name]: value for name, value in point.values.items() if name not in had}
        if new and point.step >= run.step:
            run.log(new, step=point.step)
            self._last = self._last.joined(point) if self._last and had else point

    def take_back(self, step: int) -> None:
        """Do nothing: what W&B has of a step stays, and `log` leaves the step out."""

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = self._last = None

    def _opened(self) -> Any:
        if self._run is None:
            assert self._tracked is not None
            try:
                self._run = self._library.init(
                    project=self.project,
                    name=self._tracked.name,
                    id=self._tracked.id or None,
                    resume="allow",
                    config=dict(self._tracked.settings),
                    settings=self._library.Settings(console="off"),
                )
            except self._library.Error as error:
                reason = " ".join(str(error).split())[:300]
                raise ToolkitError(
                    f"W&B cannot be used: {reason}", "Run `wandb login`, or set WANDB_MODE=offline"
                ) from error
        return self._run
