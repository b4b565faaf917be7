"""A CSV file with a row for every step."""

from os import PathLike
from pathlib import Path
from typing import IO

from toolkit.errors import ToolkitError
from toolkit.tracking.points import TAGS, Mark, Point
from toolkit.tracking.tracker import Tracker

COLUMNS = ("step", "time_unix", *TAGS)
_HEADER = (",".join(COLUMNS) + "\n").encode()


class CsvFile(Tracker):
    """A CSV file of one run, a row for every step as it comes.

    Its columns are `step`, `time_unix` (seconds), `loss` and `held_out_loss` (nats),
    `learning_rate`, `grad_norm`, `tokens_per_second` and `peak_bytes`. What a step does not have is
    empty, what is no finite number is nan.

    Args:
        path: The file; one that has the same run already is brought up to date.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.words = ("--csv", str(path))
        self._file: IO[bytes] | None = None
        self._rows: list[tuple[int, int]] = []  # step and offset in bytes

    def of_run(self, number: int) -> "CsvFile":
        """Return the file beside this one that has the run's number, this one for the first."""
        if number == 1:
            return self
        return CsvFile(self.path.with_stem(f"{self.path.stem}-{number}"))

    def place(self, name: str) -> str:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()
        except OSError as error:
            raise self._unwritable(error) from error
        return str(self.path)

    def marks(self) -> list[Mark]:
        return [self._point(line).mark for line in self._lines()]

    def log(self, point: Point) -> None:
        try:
            file = self._opened()
            if self._rows and self._rows[-1][0] == point.step:
                _, offset = self._rows.pop()
                file.seek(offset)
                point = self._point(file.readline()).joined(point)
                self._cut(offset)
            offset = file.seek(0, 2)
            file.write(_row(point))
        except OSError as error:
            raise self._unwritable(error) from error
        self._rows.append((point.step, offset))

    def take_back(self, step: int) -> None:
        self._opened()
        kept = [row for row in self._rows if row[0] <= step]
        if len(kept) < len(self._rows):
            self._cut(self._rows[len(kept)][1])
        self._rows = kept

    def flush(self) -> None:
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                raise self._unwritable(error) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> IO[bytes]:
        """Return the file, ready for the next row: what a killed writer left of a row is gone."""
        if self._file is None:
            lines, offset = self._lines(), len(_HEADER)
            self._rows = []
            for line in lines:
                self._rows.append((self._point(line).step, offset))
                offset += len(line)
            self._file = self.path.open("r+b")
            if not lines:
                self._file.write(_HEADER)
            self._cut(offset)
        return self._file

    def _cut(self, offset: int) -> None:
        assert self._file is not None
        self._file.flush()
        self._file.truncate(offset)
        self._file.seek(offset)

    def _lines(self) -> list[bytes]:
        """Return the complete rows."""
        try:
            head, *lines = self.path.read_bytes().splitlines(keepends=True) or [_HEADER]
        except OSError as error:
            raise self._unwritable(error) from error
        if head != _HEADER:
            raise self._foreign()
        return lines[:-1] if lines and not lines[-1].endswith(b"\n") else lines

    def _point(self, line: bytes) -> Point:
        try:
            step, time, *cells = line.decode().rstrip("\n").split(",")
            values = {
                name: float(cell) for name, cell in zip(TAGS, cells, strict=True) if cell != ""
            }
            return Point(int(step), float(time), values)
        except ValueError as error:
            raise self._foreign() from error

    def _foreign(self) -> ToolkitError:
        return ToolkitError(
            f"{self.path} holds something else than the steps of a run", "Name another file"
        )

    def _unwritable(self, error: OSError) -> ToolkitError:
        return ToolkitError(
            f"{self.path} cannot be written: {error.strerror}",
            "Name another file, or make room; `toolkit train --attach` brings it up to date",
        )


def _row(point: Point) -> bytes:
    cells = [str(point.step), repr(point.time)]
    cells += [_cell(name, point.values.get(name)) for name in TAGS]
    return (",".join(cells) + "\n").encode()


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if name == "peak_bytes" else repr(float(value))
