"""Documents: what a file of text, prompts or chats holds, and how files are read to them.

What a file is, is found out from its content (`toolkit.data.formats`); a bad line is an error with
file and number. Nothing here needs a tokenizer, so mistakes show at once.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from toolkit.data.refusals import Refusals
from toolkit.errors import ToolkitError

FormName = Literal["auto", "text", "json", "table", "whatsapp", "telegram"]
FORMS: tuple[str, ...] = get_args(FormName)
"""What a user may say of his files: find out, or take as what `toolkit.data.formats` calls so."""


@dataclass(frozen=True)
class Document:
    """One document: either `text`, or `prompt` and `completion`, or `messages` (a chat).

    Attributes:
        source: Where it came from, "file" or "file:line", for error messages.
        repaired: Halves of characters (lone surrogates) that were replaced by U+FFFD.
    """

    source: str
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[Any] | None = field(default=None)
    repaired: int = 0

    def content(self) -> str:
        """Return the content as canonical JSON, independent of where the document came from."""
        parts = [self.text, self.prompt, self.completion, self.messages, self.tools]
        return json.dumps(parts, sort_keys=True, ensure_ascii=True)


Row = Document | ToolkitError
"""What readers yield for a row: a document, or what is wrong with it, its place first."""


def read_documents(
    paths: list[Path],
    form: str = "auto",
    *,
    me: str | None = None,
    split: str | None = None,
    subset: str | None = None,
) -> Iterator[Document]:
    """Yield the documents of all files in order.

    Args:
        paths: Files, folders of the `datasets` library, or ids of data sets on the hub.
        form: One of `FORMS`.
        me: Whose messages are learned of a chat's export.
        split: Of data sets that have several; None is "train".
        subset: Which configuration of a data set on the hub.

    Raises:
        ToolkitError: A file is missing, holds something that is not supported, or has lines that
            are no known records (`RowsRefused`, once all that are one were yielded); or an option
            is given that none of the files takes.
    """
    from toolkit.data.formats import HEAD_BYTES, find_format, reader
    from toolkit.data.hub_datasets import has_subsets, is_dataset, read_dataset

    if form not in FORMS:
        raise ToolkitError(f"unknown format {form!r}", f"Use one of {', '.join(FORMS)}")
    datasets = [path for path in paths if is_dataset(path)]
    kinds = {
        path: find_format(path, read_file(path, HEAD_BYTES), form)
        for path in paths
        if path not in datasets
    }
    chats = any(kind.chats for kind in kinds.values())
    _check_used("--me", me, chats, "no file is read as a chat's export")
    _check_used("--split", split, datasets, "nothing that is read is a data set with splits")
    subsets = any(has_subsets(path) for path in datasets)
    _check_used("--subset", subset, subsets, "nothing that is read is a data set with subsets")
    refusals = Refusals()
    for path in paths:
        if path in kinds:
            rows = reader(kinds[path], me)(path, read_file(path))
        else:
            rows = read_dataset(path, split or "train", subset)
        for row in rows:
            if isinstance(row, ToolkitError):  # the others may be fine
                refusals.add(row)
            else:
                yield row
    refusals.check()


def read_file(path: Path, count: int = -1) -> bytes:
    """Return a file's first `count` bytes, or all of it.

    Raises:
        ToolkitError: It is missing, a directory, or cannot be read.
    """
    if path.is_dir():
        raise ToolkitError(f"{path} is a directory", "Name the files in it")
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise ToolkitError(f"cannot read {path}: {error.strerror}") from error


def _check_used(option: str, value: str | None, used: object, why: str) -> None:
    if value is not None and not used:
        raise ToolkitError(f"{option} has no effect: {why}", f"Leave {option} away")
