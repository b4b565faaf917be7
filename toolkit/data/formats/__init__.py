"""What kinds of files there are: one small file each, and one entry in `FORMATS`.

A format says whether a file is of it, from the name and the first bytes, and either reads it or
says what it is and how to convert it. The first format that recognizes a file decides, so what is
certain (magic numbers) stands before what is likely, and plain text, which takes everything, last.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.documents import Row
from toolkit.data.formats import (
    binary,
    chat_log,
    conversations,
    json_records,
    markup,
    parquet,
    plain,
    subtitles,
    table,
    telegram,
    whatsapp,
)
from toolkit.data.formats.sniffing import Sample, sample_of
from toolkit.errors import ToolkitError

Reader = Callable[[Path, bytes], Iterator[Row]]
Recognize = Callable[[Sample], str]
"""Returns what the file is, in words ("a CSV table"), or "" when it is something else."""


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        name: For `--format` and messages.
        recognize: See `Recognize`.
        read: Reads it; None where that is not supported.
        chats: Reads the messages of a chat's export, instead of `read`.
        convert: Where it is not: what to do instead, one sentence without a full stop.
    """

    name: str
    recognize: Recognize
    read: Reader | None = None
    chats: conversations.ReadChats | None = None
    convert: str = ""


FORMATS = (
    Format("parquet", parquet.recognize, parquet.read),
    Format("binary", binary.recognize, convert=binary.CONVERT),
    Format("telegram", telegram.recognize, chats=telegram.read),
    Format("json", json_records.recognize, json_records.read),
    Format("subtitles", subtitles.recognize, convert=subtitles.CONVERT),
    Format("markup", markup.recognize, convert=markup.CONVERT),
    Format("whatsapp", whatsapp.recognize, chats=whatsapp.read),
    Format("chat-log", chat_log.recognize, convert=chat_log.CONVERT),
    Format("table", table.recognize, table.read),
    Format("text", plain.recognize, plain.read),
)


def find_reader(path: Path, data: bytes, form: str = "auto", me: str | None = None) -> Reader:
    """Return what reads a file.

    Args:
        path: For its name.
        data: Its content.
        form: "auto", or the name of the format to read it as.
        me: Whose messages are learned of a chat's export.

    Raises:
        ToolkitError: The file is of a kind that cannot be read; says which, and what to do.
    """
    if form != "auto":
        return next(_reader(known, me) for known in FORMATS if known.name == form)
    sample = sample_of(path, data)
    for known in FORMATS:
        what = known.recognize(sample)
        if not what:
            continue
        if known.read or known.chats:
            return _reader(known, me)
        raw = "" if known.name == "binary" else ", or learn it as it is with --format text"
        raise ToolkitError(f"{path} looks like {what}", f"{known.convert}{raw}")
    raise AssertionError("plain text takes every file")


def _reader(known: Format, me: str | None) -> Reader:
    if known.read is not None:
        return known.read
    return lambda path, data: conversations.documents(path, known.chats(path, data), me)
