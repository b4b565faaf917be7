"""Prepare a data directory: data.json, train.ptd and, for a held-out part, validation.ptd.

What takes seconds to import (torch, transformers) is imported once the input has been read.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.data.documents import Document, read_documents, read_file
from toolkit.data.fingerprint import DATA_FORMAT_VERSION, describe_tokenizer
from toolkit.data.formats import HEAD_BYTES, is_chat
from toolkit.data.holdout import Item, choose_held_out
from toolkit.data.samples import IGNORED, Piece, Rows, pack, to_rows
from toolkit.data.settings import Settings
from toolkit.errors import ToolkitError
from toolkit.files import atomic_directory, atomic_file, sha256_file
from toolkit.sealed_json import seal

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
    documents = read_input(paths, settings, out)
    return prepare_documents(documents, paths, tokenizer, settings, out, progress)


def read_input(paths: Sequence[Path], settings: Settings, out: Path) -> list[Document]:
    """Check where the data is to go and read the files, which needs no tokenizer.

    Raises:
        ToolkitError: `out` is something else, or a file cannot be read.
    """
    check_target(out)
    own = settings
    found = read_documents(list(paths), own.form, me=own.me, split=own.split, subset=own.subset)
    documents = list(found)
    if not documents:
        raise ToolkitError(f"no documents in {', '.join(map(str, paths))}", "Check the input")
    return documents


def prepare_documents(
    documents: Sequence[Document],
    paths: Sequence[Path],
    tokenizer: Any,
    settings: Settings,
    out: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Do what `prepare` does with documents that were read from `paths`."""
    from toolkit.data.encode import DocumentEncoder

    encoder = DocumentEncoder(
        tokenizer,
        settings.seq_len,
        loss=settings.loss,
        long=settings.long,
        template=settings.template,
    )
    encoded = []
    for index, document in enumerate(documents):
        encoded.append(encoder.pieces(document))
        if progress is not None:
            progress(index + 1, len(documents))
    held_out = _held_out(documents, encoded, settings)
    parts: dict[str, list[Piece]] = {"train": [], "validation": []}
    members = dict.fromkeys(parts, 0)
    for pieces, held in zip(encoded, held_out, strict=True):
        for part, own in (
            ("train", [*pieces[: held.start], *pieces[held.stop :]]),
            ("validation", pieces[held.start : held.stop]),
        ):
            parts[part] += own
            members[part] += bool(own)
    tally = encoder.tally
    if not parts["train"]:
        reasons = [f"{count} {why}" for why, count in sorted(tally.dropped.items())]
        raise ToolkitError(
            f"nothing to train on is left of {len(documents)} documents ({', '.join(reasons)})",
            "Check the input, --seq-len and --loss",
        )
    rows, details = {}, {}
    for part, pieces in parts.items():
        if pieces:
            rows[part] = _rows(pieces, settings, _padding(tokenizer))
            details[part] = _details(pieces, rows[part], members[part])
    report = {
        # Names are nobody's business where the data goes.
        "settings": {name: value for name, value in asdict(settings).items() if name != "me"},
        "tokenizer": describe_tokenizer(tokenizer),
        "vocab_size": len(tokenizer),
        "sources": [_source(path, documents, settings.form) for path in paths],
        "documents": tally.documents,
        "split": tally.split,
        "truncated": tally.truncated,
        "repaired": tally.repaired,
        "held_out": _share(details),
        "dropped": dict(sorted(tally.dropped.items())),
    }
    return _write(out, rows, details, report)


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
    report = {
        "settings": {"seq_len": seq_len, "seed": seed, "random": count},
        "tokenizer": tokenizer,
        "vocab_size": vocab,
        "sources": [],
        "documents": count,
        "split": 0,
        "truncated": 0,
        "repaired": 0,
        "held_out": 0.0,
        "dropped": {},
    }
    return _write(out, {"train": rows}, {"train": details}, report)


def check_target(out: Path) -> None:
    """Raise unless `out` is free or holds an older data set, which may be replaced."""
    if not out.exists() or (out / "data.json").is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise ToolkitError(f"{out} exists and is not a data set", "Choose another -o")


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
    return tokens.get("validation", 0) / sum(tokens.values())


def _rows(pieces: list[Piece], settings: Settings, padding: int) -> Rows:
    groups = pack(pieces, settings.seq_len) if settings.pack else [[piece] for piece in pieces]
    return to_rows(groups, settings.seq_len, padding)


def _details(pieces: list[Piece], rows: Rows, documents: int) -> dict[str, int]:
    return {
        "documents": documents,
        "sequences": len(rows.tokens),
        "tokens": sum(len(piece.inputs) for piece in pieces),
        "labelled": int((rows.labels != IGNORED).sum()),
    }


def _write(
    out: Path, rows: dict[str, Rows], details: dict[str, Any], report: dict[str, Any]
) -> dict[str, Any]:
    from toolkit.data.dataset import write_rows

    with atomic_directory(out) as folder:
        files = {}
        for part, values in rows.items():
            path = folder / f"{part}.ptd"
            write_rows(path, values, report["tokenizer"])
            files[path.name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        content = seal({"version": DATA_FORMAT_VERSION, **report, **details, "files": files})
        with atomic_file(folder / "data.json", "w") as file:
            file.write(json.dumps(content, indent=2) + "\n")
    return content


def _padding(tokenizer: Any) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
