"""What Parquet files and `datasets` share: the library, and rows of Arrow as records."""

import importlib
from types import ModuleType
from typing import Any

from toolkit.data.formats.records import FIELDS, FORMATS
from toolkit.errors import ToolkitError


def library(name: str, what: str) -> ModuleType:
    """Import a library of the extra `datasets`.

    Args:
        name: The module.
        what: What it is needed for, to begin the message with.

    Raises:
        ToolkitError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ToolkitError(
            f"{what} needs the datasets library", 'Install it: pip install "toolkit[datasets]"'
        ) from error


def known_columns(names: list[str], where: str) -> list[str]:
    """Return the columns that records may have; others, images for example, are never decoded.

    Raises:
        ToolkitError: There is none.
    """
    known = [name for name in names if name in FIELDS]
    if not known:
        found = ", ".join(map(repr, names)) or "no columns"
        raise ToolkitError(f"{where}: found {found}", f"A table needs columns: {FORMATS}")
    return known


def record_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without the nulls inside of it: Arrow gives every message all fields of any."""
    return {name: _without_nulls(value) for name, value in row.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    return value
