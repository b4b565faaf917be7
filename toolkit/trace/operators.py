"""Time of single operators, as the phases of a long run tell it: some millions of numbers.

Phases of a kind run the same operators, so each distinct list of names is kept once and a phase
refers to it; what differs, calls and nanoseconds, lies in one array.
"""

from array import array

import numpy as np
from numpy.typing import NDArray

from toolkit.trace.schema import OperatorTime
from toolkit.trace.text import clean

NO_OPERATORS = -1
"""List of a phase that tells of no operators."""

_MAX_LISTS = 1024
_MAX_IN_PHASE = 64
_MAX_VALUES = 32_000_000


class OperatorTimes:
    """Calls and time of the operators of all phases.

    Attributes:
        names: Every operator, in the order in which they were first seen.
        lists: Operators of one kind of phase, as indices into `names`.
        values: int64 [n, 2], calls and ns; a phase's rows begin at its `operators_at`.
    """

    def __init__(
        self, names: list[str], lists: list[tuple[int, ...]], values: NDArray[np.int64]
    ) -> None:
        self.names = names
        self.lists = lists
        self.values = values


class OperatorBuilder:
    """Collects operators while phases are read. `dropped` counts phases whose operators are not
    kept, because there are too many of them."""

    def __init__(self) -> None:
        self.dropped = 0
        self._names: dict[str, int] = {}
        self._lists: dict[tuple[str, ...], int] = {}
        self._codes: list[tuple[int, ...]] = []
        self._values = array("q")

    def add(self, operators: dict[str, OperatorTime]) -> tuple[int, int]:
        """Take the operators of a phase and return its columns `operators` and `operators_at`."""
        key = tuple(operators)
        known = self._lists.get(key)
        at = len(self._values) // 2
        if known is None:
            if len(self._lists) >= _MAX_LISTS or len(key) > _MAX_IN_PHASE:
                self.dropped += 1
                return NO_OPERATORS, 0
            known = self._lists[key] = len(self._lists)
            self._codes.append(tuple(self._code(clean(name, 80)) for name in key))
        if len(self._values) >= _MAX_VALUES:
            self.dropped += 1
            return NO_OPERATORS, 0
        append = self._values.append
        for time in operators.values():
            append(time.calls)
            append(time.ns)
        return known, at

    def build(self) -> OperatorTimes:
        """Return what was collected; nothing can be added afterwards."""
        values = np.frombuffer(self._values, np.int64)
        return OperatorTimes(list(self._names), self._codes, values.reshape(-1, 2))

    def _code(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))
