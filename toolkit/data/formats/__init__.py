"""What kinds of files there are: one small file each, and one entry in `FORMATS`.

A format says whether a file is of it, from the name and the first bytes, and either reads it or
says what it is and how to convert it. The first format that recognizes a file decides, so what is
certain (magic numbers) stands before what is likely, and plain text, which takes everything, last.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.documents import Document
from toolkit.data.formats import (
    binary,
    chat_log,
    json_records,
    markup,
    parquet,
    plain,
    subtitles,
    table,
)
from toolkit.data.formats.sniffing import Sample, sample_of
from toolkit.errors import ToolkitError

Reader = Callable[[Path, bytes], Iterator[Document]]
Recognize = Callable[[Sample], str]
"""Returns what the file is, in words ("a CSV table"), or "" when it is something else."""


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        name: For `--format` and messages.
        recognize: See `Recognize`.
        read: Reads it; None where that is not supported.
        convert: Where it is not: what to do instead, one sentence without a full stop.
    """

    name: str
    recognize: Recognize
    read: Reader | None = None
    convert: str = ""


FORMATS = (
    Format("parquet", parquet.recognize, parquet.read),
    Format("binary", binary.recognize, convert=binary.CONVERT),
    Format("json", json_records.recognize, json_records.read),
    Format("subtitles", subtitles.recognize, convert=subtitles.CONVERT),
    Format("markup", markup.recognize, convert=markup.CONVERT),
    Format("chat-log", chat_log.recognize, convert=chat_log.CONVERT),
    Format("table", table.recognize, table.read),
    Format("text", plain.recognize, plain.read),
)


def find_reader(path: Path, data: bytes, form: str = "auto") -> Reader:
    """Return what reads a file.

    Args:
        path: For its name.
        data: Its content.
        form: "auto", or the name of the format to read it as.

    Raises:
        ToolkitError: The file is of a kind that cannot be read; says which, and what to do.
    """
    if form != "auto":
        return next(known.read for known in FORMATS if known.name == form and known.read)
    sample = sample_of(path, data)
    for known in FORMATS:
        what = known.recognize(sample)
        if not what:
            continue
        if known.read is not None:
            return known.read
        raw = "" if known.name == "binary" else ", or learn it as it is with --format text"
        raise ToolkitError(f"{path} looks like {what}", f"{known.convert}{raw}")
    raise AssertionError("plain text takes every file")
