"""Tables of fields between commas, tabs or semicolons, below a header that names them."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.data.documents import Row
from toolkit.data.formats.plain import decode
from toolkit.data.formats.records import FIELDS, FORMATS, NESTED, row_of
from toolkit.data.formats.sniffing import Sample
from toolkit.errors import ToolkitError

_SUFFIXES = {".csv": "a CSV table", ".tsv": "a TSV table", ".tab": "a TSV table"}
_DELIMITERS = {"\t": "a TSV table", ",": "a CSV table", ";": "a CSV table", "|": "a table"}
_NAME = re.compile(r'"?[A-Za-z_][\w.-]*( [\w.-]+){0,2}"?')
_ROWS = 20
_FEWEST = 4
_FIELDS = 3  # of a table without a header that is one; prose has a comma here and there


def recognize(sample: Sample) -> str:
    """Return what it is: a known suffix, or lines of equally many fields."""
    if sample.suffix in _SUFFIXES:
        return _SUFFIXES[sample.suffix]
    for delimiter, what in _DELIMITERS.items():
        if _is_table(sample.lines[: _ROWS + 1], delimiter):
            return what
    return ""


def _is_table(lines: tuple[str, ...], delimiter: str) -> bool:
    if delimiter not in (lines[0] if lines else ""):
        return False
    names = lines[0].split(delimiter)  # a header has no blanks behind its commas, a sentence has
    headed = len(names) > 1 and all(_NAME.fullmatch(name) for name in names)
    fewest = 2 if headed else _FEWEST
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return False
    if len(rows) > fewest:
        rows.pop()  # a field between quotes may hold line breaks: the last row may be cut off
    if not all(row and row[0].strip() for row in rows):
        return False  # indented text
    widths = {len(row) for row in rows}
    wanted = 2 if headed or delimiter == "\t" else _FIELDS
    return len(rows) >= fewest and len(widths) == 1 and widths.pop() >= wanted


def read(path: Path, data: bytes) -> Iterator[Row]:
    """Yield what every row is.

    The header names the columns as records name their fields; columns that are not known are left
    out. `messages` and other lists are JSON within a cell.

    Raises:
        ToolkitError: The header names nothing known, or the table ends in the middle of a row.
    """
    text = decode(path, data)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    rows = _rows(path, text, _delimiter(path, text))
    number, header = next(rows, (1, []))
    names = [name.strip().lower() for name in header]
    known = [name for name in names if name in FIELDS]
    if not known or len(known) != len(set(known)):
        found = ", ".join(map(repr, header)) or "nothing"
        raise ToolkitError(
            f"{path}:{number}: a table's first line names its columns, this one has {found}",
            f"A table needs columns as records have fields: {FORMATS}; "
            "--format text learns it as it is",
        )
    for number, row in rows:
        yield _row(names, row, f"{path}:{number}")


def _row(names: list[str], row: list[str], where: str) -> Row:
    if len(row) != len(names):
        return ToolkitError(f"{where}: {len(row)} fields, the header names {len(names)} columns")
    fields = zip(names, row, strict=True)
    try:
        record = {name: _value(name, cell, where) for name, cell in fields if name in FIELDS}
    except ToolkitError as error:
        return error
    return row_of(record, where)


def _delimiter(path: Path, text: str) -> str:
    """Return what stands between the names of the header: what finds most that are known."""
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    first = next((line for line in text.split("\n") if line.strip()), "").strip("\r")

    def known(delimiter: str) -> tuple[int, int]:
        names = [name.strip(' "').lower() for name in first.split(delimiter)]
        return sum(name in FIELDS for name in names), len(names)

    return max(_DELIMITERS, key=known) if first else ","


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line that each row begins at, and its fields; blank lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 1
    try:
        for row in reader:
            if row:
                yield number, row
            number = reader.line_num + 1
    except csv.Error as error:
        raise ToolkitError(
            f"{path}:{number}: not a row: {error}",
            "Put fields with quotes or line breaks between quotes, and double quotes inside",
        ) from error


def _value(name: str, cell: str, where: str) -> Any:
    if name not in NESTED:
        return cell
    if not cell.strip():
        return None
    try:
        return json.loads(cell)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ToolkitError(f"{where}: column {name} is not JSON: {error}") from error
