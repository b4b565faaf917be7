"""Rows that are refused: all of them are named at once, each with its place and cause."""

from toolkit.errors import ToolkitError

MOST = 100
"""Refused rows after which nothing more is read: the file is another than was meant."""


class RowRefused(ToolkitError):
    """One row was refused, and others may be fine; the cause begins with file and line, or row."""


class RowsRefused(ToolkitError):
    """Several rows were refused.

    Attributes:
        rows: What is wrong, a line for each; begins with file and line, or row.
    """

    def __init__(self, errors: list[ToolkitError]) -> None:
        count = f"{len(errors)}{' or more' if len(errors) == MOST else ''} rows are refused"
        super().__init__(f"{count}, the first is {errors[0].cause}", errors[0].remedy)
        self.rows = [error.cause for error in errors]


class Refusals:
    """Collects what is wrong with rows."""

    def __init__(self) -> None:
        self._errors: list[ToolkitError] = []

    def add(self, error: ToolkitError) -> None:
        """Take note of a row; its cause begins with where it is.

        Raises:
            ToolkitError: It is one too many.
        """
        self._errors.append(error)
        if len(self._errors) == MOST:
            self.check()

    def check(self) -> None:
        """Raise if a row was refused: its own error, or a `RowsRefused` for several."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise RowsRefused(self._errors)
