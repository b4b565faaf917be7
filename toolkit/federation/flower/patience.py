"""How long a node may be silent before it is asked again, by what the others took."""

from statistics import median

_MOST = 0.9  # of the others must have answered before their times tell anything
_TIMES = 3.0
_LEAST_SECONDS = 60.0


class Patience:
    """With nodes that were asked the same.

    Attributes:
        asked: How many were, and have answered or may do so.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._taken: list[float] = []

    def ended(self, seconds: float | None) -> None:
        """Note what an answer took; None: there will be none, and nobody waits for it."""
        if seconds is None:
            self.asked -= 1
        else:
            self._taken.append(seconds)

    def seconds(self, whole: float) -> float:
        """Return how long a node may be silent.

        Three times the median of the others, at least a minute, once nine tenths of them have
        answered; else, as where one is alone or many messages were lost, half of the time.

        Args:
            whole: Seconds that an answer may take.
        """
        if self._taken and len(self._taken) >= _MOST * (self.asked - 1):
            return min(whole / 2, max(_LEAST_SECONDS, _TIMES * median(self._taken)))
        return whole / 2
