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
from toolkit.data.formats.sniffing import HEAD_BYTES, Sample, sample_of
from toolkit.errors import ToolkitError

__all__ = ["FORMATS", "HEAD_BYTES", "Format", "find_format", "is_chat", "reader"]

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
_CHATS = {"telegram", "whatsapp", "chat-log"}


def find_format(path: Path, head: bytes, form: str = "auto") -> Format:
    """Return what a file is.

    Args:
        path: For its name.
        head: Its first bytes, `HEAD_BYTES` of them or all.
        form: "auto", or the name of the format to read it as.

    Raises:
        ToolkitError: The file is of a kind that cannot be read; says which, and what to do.
    """
    if form != "auto":
        return next(known for known in FORMATS if known.name == form)
    known, what = _recognize(path, head)
    if known.read or known.chats:
        return known
    raw = "" if known.name == "binary" else ", or learn it as it is with --format text"
    raise ToolkitError(f"{path} looks like {what}", f"{known.convert}{raw}")


def reader(known: Format, me: str | None) -> Reader:
    """Return what reads a format; `me` is whose messages are learned of a chat's export."""
    if known.read is not None:
        return known.read
    chats = known.chats
    assert chats is not None  # what has neither is refused before
    return lambda path, data: conversations.documents(path, chats(path, data), me)


def is_chat(path: Path, head: bytes, form: str = "auto") -> bool:
    """Whether a file is people's chat, whatever it is read as: its name may be theirs."""
    return form in _CHATS or _recognize(path, head)[0].name in _CHATS


def _recognize(path: Path, head: bytes) -> tuple[Format, str]:
    sample = sample_of(path, head)
    for known in FORMATS:
        what = known.recognize(sample)
        if what:
            return known, what
    raise AssertionError("plain text takes every file")
