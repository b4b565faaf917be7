"""A node whose phone is too hot to train: it waits until the phone is cool, as the app does."""

import time
from collections.abc import Callable

from toolkit.device import Device
from toolkit.device.heat import read_heat
from toolkit.federation.orders import NodeFailed, NodeReport
from toolkit.federation.places import Place

_LOOK_SECONDS = 15.0
_GLANCE_SECONDS = 0.5
_GOOD_PART = 0.25


class Cooling:
    """Looks at a phone now and then while it has a part in a round, through lost connections.

    Attributes:
        why: It is too hot, by the last look, and has not become cool since; None: it is not.
    """

    def __init__(
        self,
        deadline: float,
        glance: Callable[[], None],
        say: Callable[[str], None],
        report: NodeReport,
        place: Place,
    ) -> None:
        """Be ready.

        Args:
            deadline: By `time.monotonic`; who is hot until then has no part in the round.
            glance: Raises if the federation ends.
            report: Told how long was waited.
            place: Given up meanwhile.
        """
        self._begun, self._deadline = time.monotonic(), deadline
        self._glance, self._say, self._report, self._place = glance, say, report, place
        self._looked = float("-inf")
        self.why: str | None = None

    def over(self, device: Device) -> None:
        """Look at once, over a new connection."""
        self._device, self._looked = device, float("-inf")

    def hot(self) -> bool:
        """Whether the phone is too hot to go on, by a look that is no older than 15 s."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            self.why = read_heat(self._device).reason(held=self.why is not None)
        return self.why is not None

    def wait(self, done: str) -> None:
        """Wait until the phone, which is too hot, is cool.

        Args:
            done: What of the round was done in time if it is the end.

        Raises:
            NodeFailed: It was not cool in time.
        """
        self._say(f"{self._report.node} waits to cool down: {self.why}")
        begun = time.monotonic()
        self._place.leave()
        try:
            while self.hot():
                if time.monotonic() > self._deadline:
                    raise NodeFailed(f"hot: {self.why}; {done}")
                time.sleep(min(_GLANCE_SECONDS, _LOOK_SECONDS))
                self._glance()
            self._place.take()
        finally:
            self._report.hot_seconds += time.monotonic() - begun
        self._say(f"{self._report.node} is cool again")

    def late(self, done: str) -> NodeFailed:
        """Return how a node fails whose time is over, by what it lost a good part of the time."""
        waited = self._report.hot_seconds
        if waited > _GOOD_PART * (time.monotonic() - self._begun):
            return NodeFailed(f"hot: it waited {waited:.0f} s to cool down; {done}")
        return NodeFailed(f"late: {done}")
