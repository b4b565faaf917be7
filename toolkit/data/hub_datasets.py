"""Data sets of the `datasets` library: folders that it saved or that it loads, and hub ids."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.data.documents import Row
from toolkit.data.formats.arrow import known_columns, library, record_of
from toolkit.data.formats.records import row_of
from toolkit.errors import ToolkitError

_SAVED = ("dataset_dict.json", "state.json")
_SUFFIX = re.compile(r"\.([a-z]{3,9}|md|gz)", re.IGNORECASE)  # of files; the hub has .v2, .5, .en


def is_dataset(path: Path) -> bool:
    """Whether a path is a folder of a data set, or no file at all but may be a hub id."""
    if path.is_dir():
        saved = any((path / name).is_file() for name in _SAVED)
        return saved or next(path.rglob("*.parquet"), None) is not None
    from toolkit.sources.hub import is_hub_id

    # A path that is misspelt looks like a hub id; it usually has a suffix, or its folder is there.
    unlike = path.exists() or path.parent.is_dir() or _SUFFIX.fullmatch(path.suffix)
    return not unlike and is_hub_id(str(path))


def has_subsets(path: Path) -> bool:
    """Whether a data set may have several configurations; one that was saved to disk has none."""
    return not any((path / name).is_file() for name in _SAVED)


def read_dataset(path: Path, split: str, subset: str | None) -> Iterator[Row]:
    """Yield what every row of a split is; messages name it by its index.

    Args:
        path: A folder, or a hub id.
        split: Its name.
        subset: Which configuration of a hub's data set; None where it has a single one.

    Raises:
        ToolkitError: The library is not installed, or there is no such data set, subset or split.
    """
    datasets = library("datasets", f"{path} is a data set, and reading one")
    found = _load(datasets, path, subset)
    if not isinstance(found, datasets.Dataset):
        if split not in found:
            splits = ", ".join(found)
            raise ToolkitError(f"{path} has no split {split!r}", f"Choose with --split: {splits}")
        found = found[split]
    rows = found.select_columns(known_columns(found.column_names, str(path)))
    for index, row in enumerate(rows):
        yield row_of(record_of(row), f"{path}[{index}]")


def _load(datasets: Any, path: Path, subset: str | None) -> Any:
    if os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):  # datasets has bars of its own, too
        datasets.disable_progress_bars()
    try:
        if not has_subsets(path):
            return datasets.load_from_disk(str(path))
        return datasets.load_dataset(str(path), subset)
    except Exception as error:  # errors of several libraries
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]).rstrip(".") or type(error).__name__
        raise ToolkitError(
            f"cannot load the data set {path}: {reason}",
            "Check the name, and --subset where it has several; private ones need: hf auth login",
        ) from error
