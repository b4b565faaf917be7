"""JSON Lines, and JSON files that are a list of records or a single one."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.data.documents import Row
from toolkit.data.formats.plain import decode
from toolkit.data.formats.records import FORMATS, row_of
from toolkit.data.formats.sniffing import Sample
from toolkit.errors import ToolkitError

_SUFFIXES = {".jsonl", ".ndjson", ".json"}
_RECORD = re.compile(r'\s*(\{\s*("|$|\})|\[\s*(\{|$))')
_EVERY_LINE = f"Every line must be one object with {FORMATS}"


def recognize(sample: Sample) -> str:
    """Return what it is: a known suffix, or a first line that begins as records do."""
    if sample.suffix in _SUFFIXES:
        return "JSON"
    return "JSON" if _RECORD.match(sample.start) and _parses(sample) else ""


def _parses(sample: Sample) -> bool:
    """Whether the first line is an object, or the lines may be a longer JSON value."""
    try:
        return isinstance(json.loads(sample.start), dict | list)
    except RecursionError:
        return True
    except json.JSONDecodeError as error:
        # Ends within the line: the value goes on in the next one. Else it is not JSON.
        return error.pos >= len(sample.start.rstrip()) - 1


def read(path: Path, data: bytes) -> Iterator[Row]:
    """Yield what all records are, in order."""
    text = decode(path, data)
    whole = _whole(path, text)
    if isinstance(whole, list):
        yield from (row_of(record, f"{path}[{i}]") for i, record in enumerate(whole))
    elif isinstance(whole, dict):
        yield row_of(whole, str(path))
    else:
        yield from _lines(path, text)


def _whole(path: Path, text: str) -> Any:
    """Return a file that is one list, or one object over several lines; None for other files."""
    start = text.lstrip()
    first = start.partition("\n")[0]
    if not start.startswith("[") and _is_json(first):
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        # A list, or a line that opens an object: the mistake is where the parser came to.
        if first.strip() == "{" or (start.startswith("[") and not _is_json(first)):
            raise ToolkitError(
                f"{path}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})",
                f"A file is a list of records or has one a line, each with {FORMATS}",
            ) from error
        return None
    except RecursionError:
        return None  # named with its line


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def _lines(path: Path, text: str) -> Iterator[Row]:
    # Only "\n" ends a line: str.splitlines would also cut at U+2028, which JSON strings may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        yield _line(line, f"{path}:{number}")


def _line(line: str, where: str) -> Row:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return ToolkitError(
            f"{where}: not valid JSON: {error.msg} (column {error.colno})", _EVERY_LINE
        )
    except RecursionError:
        return ToolkitError(f"{where}: JSON that is nested too deeply", _EVERY_LINE)
    return row_of(record, where)
