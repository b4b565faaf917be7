"""Compact tables of numbers: rows are appended while reading, columns are numpy views after."""

from collections.abc import Iterable
from struct import Struct
from typing import Self

import numpy as np

_DTYPES = {"q": np.int64, "d": np.float64}


class Table:
    """Rows of numbers under named columns, 8 bytes a cell.

    Args:
        columns: Names of the columns.
        values: int64 or float64 [rows, columns].
    """

    def __init__(self, columns: tuple[str, ...], values: np.ndarray) -> None:
        self.columns = columns
        self.values = values
        self._index = {name: i for i, name in enumerate(columns)}

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[:, self._index[name]]

    def block(self, first: str, last: str) -> np.ndarray:
        """Return the columns from `first` to `last`, both included, as one view [rows, k]."""
        return self.values[:, self._index[first] : self._index[last] + 1]

    def take(self, rows: np.ndarray) -> Self:
        """Return the rows that an index or a mask selects."""
        return type(self)(self.columns, self.values[rows])


class TableBuilder:
    """Collects rows for a `Table`.

    Args:
        columns: Names of the columns.
        typecode: "q" for int64, "d" for float64.
        limit: Rows kept; further ones are counted in `dropped`.
    """

    def __init__(self, columns: tuple[str, ...], typecode: str, limit: int) -> None:
        self.columns = columns
        self.dropped = 0
        self._dtype = _DTYPES[typecode]
        self._values = bytearray()
        self._pack = Struct(f"={len(columns)}{typecode}").pack  # far faster than array.extend
        self._room = limit

    def append(self, row: Iterable[float]) -> None:
        """Add one row of as many numbers as there are columns."""
        if self._room <= 0:
            self.dropped += 1
            return
        self._room -= 1
        self._values += self._pack(*row)

    def build(self) -> Table:
        """Return the table; no row can be added afterwards."""
        values = np.frombuffer(self._values, self._dtype)
        return Table(self.columns, values.reshape(-1, len(self.columns)))
