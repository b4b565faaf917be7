"""Parquet tables, whose columns are named as records name their fields."""

from collections.abc import Iterator
from pathlib import Path

from toolkit.data.documents import Row
from toolkit.data.formats.arrow import known_columns, library, record_of
from toolkit.data.formats.records import row_of
from toolkit.data.formats.sniffing import Sample
from toolkit.errors import ToolkitError


def recognize(sample: Sample) -> str:
    """Return what the first bytes say."""
    return "a Parquet table" if sample.data.startswith(b"PAR1") else ""


def read(path: Path, data: bytes) -> Iterator[Row]:
    """Yield what every row is; messages name it by its index.

    Raises:
        ToolkitError: pyarrow is not installed, or the file is damaged.
    """
    arrow = library("pyarrow", f"{path} is a Parquet table, and reading one")
    parquet = library("pyarrow.parquet", "reading Parquet")
    try:
        file = parquet.ParquetFile(arrow.BufferReader(data))
        columns = known_columns(file.schema_arrow.names, str(path))
        index = 0
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist():
                yield row_of(record_of(row), f"{path}[{index}]")
                index += 1
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ToolkitError(f"{path} is a damaged Parquet file: {reason}") from error
