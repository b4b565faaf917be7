"""Tables of fields between commas, tabs or semicolons."""

import csv
import re

from toolkit.data.formats.sniffing import Sample

CONVERT = (
    "Make JSON Lines of it, "
    "e.g. pandas.read_csv(...).to_json('data.jsonl', orient='records', lines=True)"
)
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
