"""Places of nodes that train at the same time: who waits for a phone to cool down gives up its own.

Who had one before goes first, since its time runs.
"""

import threading
from collections.abc import Callable

_GLANCE_SECONDS = 0.5


class Places:
    """So many places."""

    def __init__(self, count: int) -> None:
        self._free, self._returning = count, 0
        self._changed = threading.Condition()

    def take(self, glance: Callable[[], None], *, again: bool) -> None:
        """Wait for a place.

        Args:
            glance: Raises if the federation ends.
            again: Whether it had one before.
        """
        with self._changed:
            self._returning += again
            try:
                while self._free == 0 or (self._returning and not again):
                    self._changed.wait(_GLANCE_SECONDS)
                    glance()
                self._free -= 1
            finally:
                self._returning -= again
                self._changed.notify_all()

    def leave(self) -> None:
        """Let another have a place."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()


class Place:
    """A node's own in a round; it has one while it is `held`."""

    def __init__(self, places: Places | None, glance: Callable[[], None]) -> None:
        """Be without a place; where there are no places, there is room for all."""
        self._places, self._glance = places, glance
        self._had = self.held = False

    def take(self) -> None:
        """Wait for a place."""
        if self._places is not None and not self.held:
            self._places.take(self._glance, again=self._had)
        self._had = self.held = True

    def leave(self) -> None:
        """Give the place up, if there is one."""
        if self._places is not None and self.held:
            self._places.leave()
        self.held = False
