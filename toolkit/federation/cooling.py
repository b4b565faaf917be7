"""A node whose phone is too hot to train: it waits until the phone is cool, as the app does."""

import time
from collections.abc import Callable
from contextlib import suppress

from toolkit.device import Device
from toolkit.device.heat import read_heat
from toolkit.errors import ToolkitError
from toolkit.federation.orders import NodeFailed, NodeReport

_LOOK_SECONDS = 15.0
_GLANCE_SECONDS = 0.5


class Cooling:
    """Looks at a phone now and then while it has a part in a round."""

    def __init__(
        self,
        device: Device,
        deadline: float,
        glance: Callable[[], None],
        say: Callable[[str], None],
        report: NodeReport,
    ) -> None:
        """Be ready.

        Args:
            device: Connected.
            deadline: By `time.monotonic`; who is hot until then has no part in the round.
            glance: Raises if the federation ends.
            report: Told how long was waited.
        """
        self._device, self._deadline = device, deadline
        self._glance, self._say, self._report = glance, say, report
        self._looked = float("-inf")

    def hot(self) -> str | None:
        """Return why the phone is too hot to go on; None if it is not, or was not a moment ago."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        return read_heat(self._device).reason()

    def wait(self, why: str, done: str) -> None:
        """Wait until the phone is cool.

        Args:
            why: It is too hot.
            done: What of the round was done in time if it is the end.

        Raises:
            NodeFailed: It was not cool in time.
        """
        self._say(f"{self._report.node} waits to cool down: {why}")
        begun = looked = time.monotonic()
        try:
            while True:
                now = time.monotonic()
                if now > self._deadline:
                    raise NodeFailed(f"hot: {why}; {done}")
                if now - looked >= _LOOK_SECONDS:
                    looked = now
                    if (still := read_heat(self._device).reason(held=True)) is None:
                        break
                    why = still
                time.sleep(min(_GLANCE_SECONDS, _LOOK_SECONDS))
                self._glance()
        finally:
            self._report.hot_seconds += time.monotonic() - begun
        self._say(f"{self._report.node} is cool again")

    def late(self, done: str) -> NodeFailed:
        """Return how a node fails whose time is over, by what it lost the time."""
        waited, why = self._report.hot_seconds, None
        with suppress(ToolkitError):  # of a connection that broke, too
            why = read_heat(self._device).reason(held=waited > 0)
        if why is not None:
            return NodeFailed(f"hot: {why}; {done}")
        if waited > 0:
            return NodeFailed(f"hot: it waited {waited:.0f} s to cool down; {done}")
        return NodeFailed(f"late: {done}")
