"""Plain text: the whole file is one document."""

from collections.abc import Iterator
from pathlib import Path

from toolkit.data.documents import Document
from toolkit.data.formats.sniffing import Sample
from toolkit.errors import ToolkitError


def recognize(sample: Sample) -> str:
    """Everything that nothing else recognizes is text."""
    return "text"


def read(path: Path, data: bytes) -> Iterator[Document]:
    """Yield the file's text as one document."""
    yield Document(source=str(path), text=decode(path, data))


def decode(path: Path, data: bytes) -> str:
    """Return UTF-8 text, its byte order mark left out.

    Raises:
        ToolkitError: It is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ToolkitError(
            f"{path}:{line}: not UTF-8 text (byte {error.start} of the file)",
            "Convert it, e.g. with: iconv -f ISO-8859-1 -t UTF-8",
        ) from error
