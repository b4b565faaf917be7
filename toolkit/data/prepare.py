"""Prepare a data directory: data.json, train.ptd and, for a held-out part, validation.ptd.

What takes seconds to import (torch, transformers) is imported once the input has been read.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.data.documents import Document, read_documents, read_file
from toolkit.data.fingerprint import describe_template, describe_tokenizer
from toolkit.data.formats import HEAD_BYTES, is_chat
from toolkit.data.holdout import Item, choose_held_out
from toolkit.data.prepared import Prepared, check_target
from toolkit.data.refusals import Refusals, RowRefused
from toolkit.data.samples import IGNORED, Piece, Rows, pack, to_rows
from toolkit.data.settings import Settings
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file

if TYPE_CHECKING:
    from toolkit.data.encode import Tally

_UNSAID = {"me", "chat_template"}
"""Settings that data.json leaves out: a name is nobody's business where the data goes, and the
template has a place of its own there."""

Progress = Callable[[int, int], None]
"""Called with documents done and documents in all."""
_CHAT_SUFFIXES = {".txt", ".json", ".log"}  # another may be part of a name


def prepare(
    paths: Sequence[Path],
    tokenizer: Any,
    settings: Settings,
    out: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the data directory `out` from files of documents and return what data.json says.

    The result depends on the documents, the tokenizer and the settings only: same in, same bytes.

    Raises:
        ToolkitError: A file cannot be read, a line is bad, or no trainable token is left.
    """
    check_target(out)
    documents = read_input(paths, settings)
    return prepare_documents(documents, paths, tokenizer, settings, progress).write(out)


def read_input(paths: Sequence[Path], settings: Settings) -> list[Document]:
    """Read the files, which needs no tokenizer.

    Raises:
        ToolkitError: A file cannot be read, or a setting is for what none of them holds.
    """
    own = settings
    found = read_documents(list(paths), own.form, me=own.me, split=own.split, subset=own.subset)
    documents = list(found)
    if not documents:
        raise ToolkitError(f"no documents in {', '.join(map(str, paths))}", "Check the input")
    if own.chat_template and not any(_is_chat(document, own) for document in documents):
        raise ToolkitError(
            f"nothing in {', '.join(map(str, paths))} is a chat, which --chat-template is for",
            "Leave it away" if own.template else "Leave it, or --no-template, away",
        )
    return documents


def _is_chat(document: Document, settings: Settings) -> bool:
    return document.messages is not None or (settings.template and document.prompt is not None)


def prepare_documents(
    documents: Sequence[Document],
    paths: Sequence[Path],
    tokenizer: Any,
    settings: Settings,
    progress: Progress | None = None,
) -> Prepared:
    """Return the rows of documents that were read from `paths`; nothing is written.

    Raises:
        ToolkitError: A document does not fit the template, or no trainable token is left.
    """
    encoded, tally = _encode(documents, tokenizer, settings, progress)
    parts, members = _divide(encoded, _held_out(documents, encoded, settings))
    if not parts["train"]:
        reasons = [f"{count} {why}" for why, count in sorted(tally.dropped.items())]
        raise ToolkitError(
            f"nothing to train on is left of {len(documents)} documents ({', '.join(reasons)})",
            "Check the input, --seq-len and --loss",
        )
    rows, sources, details = {}, {}, {}
    for part, pieces in parts.items():
        if pieces:
            groups = _groups(pieces, settings)
            rows[part] = to_rows(groups, settings.seq_len, _padding(tokenizer))
            sources[part] = [[piece.source for piece in group] for group in groups]
            details[part] = _details(pieces, rows[part], members[part])
    report = {
        "settings": {k: v for k, v in asdict(settings).items() if k not in _UNSAID},
        "tokenizer": describe_tokenizer(tokenizer),
        "chat_template": describe_template(settings.chat_template),
        "vocab_size": len(tokenizer),
        "sources": [_source(path, documents, settings.form) for path in paths],
        "documents": tally.documents,
        "split": tally.split,
        "truncated": tally.truncated,
        "repaired": tally.repaired,
        "held_out": _share(details),
        "dropped": dict(sorted(tally.dropped.items())),
    }
    return Prepared(rows, sources, report | details, settings.chat_template, tally.left_out)


def _encode(
    documents: Sequence[Document],
    tokenizer: Any,
    settings: Settings,
    progress: Progress | None,
) -> tuple[list[list[Piece]], "Tally"]:
    """Return the pieces of every document, and what was done to them."""
    from toolkit.data.encode import DocumentEncoder

    encoder = DocumentEncoder(
        tokenizer,
        settings.seq_len,
        loss=settings.loss,
        long=settings.long,
        template=settings.template,
        chat_template=settings.chat_template,
    )
    encoded, refusals = [], Refusals()
    for index, document in enumerate(documents):
        try:
            encoded.append(encoder.pieces(document))
        except RowRefused as error:
            refusals.add(error)
        if progress is not None:
            progress(index + 1, len(documents))
    refusals.check()
    return encoded, encoder.tally


def _divide(
    encoded: list[list[Piece]], held_out: list[range]
) -> tuple[dict[str, list[Piece]], dict[str, int]]:
    """Return the pieces to train on and those held out, and of how many documents they are."""
    parts: dict[str, list[Piece]] = {"train": [], "validation": []}
    members = dict.fromkeys(parts, 0)
    for pieces, held in zip(encoded, held_out, strict=True):
        for part, own in (
            ("train", [*pieces[: held.start], *pieces[held.stop :]]),
            ("validation", pieces[held.start : held.stop]),
        ):
            parts[part] += own
            members[part] += bool(own)
    return parts, members


def prepare_random(
    count: int,
    seq_len: int,
    vocab: int,
    seed: int,
    out: Path,
    tokenizer: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Write a data directory of `count` rows of random tokens and return what data.json says.

    `tokenizer` is what the manifest of the bundle says that they are for.
    """
    if count < 1 or seq_len < 1:
        raise ToolkitError(f"{count} random rows of {seq_len} tokens are none")
    check_target(out)
    from toolkit.data.dataset import random_rows

    rows = random_rows(count, seq_len, vocab, seed)
    details = {
        "documents": count,
        "sequences": count,
        "tokens": count * seq_len,
        "labelled": count * seq_len,
    }
    report: dict[str, Any] = {
        "settings": {"seq_len": seq_len, "seed": seed, "random": count},
        "tokenizer": tokenizer,
        "chat_template": None,
        "vocab_size": vocab,
        "sources": [],
        "documents": count,
        "split": 0,
        "truncated": 0,
        "repaired": 0,
        "held_out": 0.0,
        "dropped": {},
    }
    return Prepared({"train": rows}, {}, report | {"train": details}).write(out)


def _source(path: Path, documents: Sequence[Document], form: str) -> dict[str, str]:
    """Return name and digest of a file, or of the records that a data set gave.

    Chats are exported to files that bear people's names: these are named by their digest.
    """
    if path.is_file():
        digest = sha256_file(path)
        private = is_chat(path, read_file(path, HEAD_BYTES), form)
        return {"name": _anonymous(path, digest) if private else path.name, "sha256": digest}
    records = hashlib.sha256()
    for document in documents:
        if document.source.startswith(f"{path}["):
            records.update(document.content().encode())
    return {"name": path.name if path.exists() else str(path), "sha256": records.hexdigest()}


def _anonymous(path: Path, digest: str) -> str:
    suffix = path.suffix.lower()
    return digest[:12] + (suffix if suffix in _CHAT_SUFFIXES else "")


def _held_out(
    documents: Sequence[Document], encoded: list[list[Piece]], settings: Settings
) -> list[range]:
    """Return for each document which of its pieces are held out."""
    items = [
        Item(
            document.content(),
            tuple(len(piece.inputs) for piece in pieces),
            divisible=document.text is not None,
        )
        for document, pieces in zip(documents, encoded, strict=True)
    ]
    return choose_held_out(items, settings.validation, settings.seed)


def _share(details: dict[str, Any]) -> float:
    """Return the share of the tokens that is held out."""
    tokens = {part: counts["tokens"] for part, counts in details.items()}
    return float(tokens.get("validation", 0) / sum(tokens.values()))


def _groups(pieces: list[Piece], settings: Settings) -> list[list[Piece]]:
    return pack(pieces, settings.seq_len) if settings.pack else [[piece] for piece in pieces]


def _details(pieces: list[Piece], rows: Rows, documents: int) -> dict[str, int]:
    return {
        "documents": documents,
        "sequences": len(rows.tokens),
        "tokens": sum(len(piece.inputs) for piece in pieces),
        "labelled": int((rows.labels != IGNORED).sum()),
    }


def _padding(tokenizer: Any) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
