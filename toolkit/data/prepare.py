"""Prepare a data directory: data.json, train.ptd and, for a held-out part, validation.ptd."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.data.dataset import random_rows, write_rows
from toolkit.data.documents import Document, read_documents
from toolkit.data.encode import LONG, LOSSES, DocumentEncoder
from toolkit.data.fingerprint import describe_tokenizer
from toolkit.data.samples import IGNORED, Piece, Rows, pack, to_rows
from toolkit.errors import ToolkitError
from toolkit.files import atomic_directory, atomic_file, sha256_file

VERSION = 1
Progress = Callable[[int, int], None]
"""Called with documents done and documents in all."""


@dataclass(frozen=True)
class Settings:
    """How documents become rows; see `toolkit data --help`."""

    seq_len: int
    loss: str = "assistant"
    pack: bool = True
    long: str = "split"
    validation: float = 0.05
    seed: int = 0
    template: bool = True

    def __post_init__(self) -> None:
        if self.seq_len < 1:
            raise ToolkitError(f"the sequence length {self.seq_len} is not positive")
        if self.loss not in LOSSES:
            raise ToolkitError(f"unknown loss {self.loss!r}", f"Use one of {', '.join(LOSSES)}")
        if self.long not in LONG:
            raise ToolkitError(f"unknown way {self.long!r}", f"Use one of {', '.join(LONG)}")
        if not 0 <= self.validation < 1:
            raise ToolkitError(f"the held-out share {self.validation} is not in 0 <= share < 1")


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
    documents = list(read_documents(list(paths)))
    if not documents:
        raise ToolkitError(f"no documents in {', '.join(map(str, paths))}", "Check the input")
    encoder = DocumentEncoder(
        tokenizer,
        settings.seq_len,
        loss=settings.loss,
        long=settings.long,
        template=settings.template,
    )
    held_out = choose_held_out(documents, settings.validation, settings.seed)
    parts: dict[str, list[Piece]] = {"train": [], "validation": []}
    members = dict.fromkeys(parts, 0)
    for index, document in enumerate(documents):
        pieces = encoder.pieces(document)
        part = "validation" if index in held_out else "train"
        parts[part] += pieces
        members[part] += bool(pieces)
        if progress is not None:
            progress(index + 1, len(documents))
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
        "settings": asdict(settings),
        "tokenizer": describe_tokenizer(tokenizer),
        "vocab_size": len(tokenizer),
        "sources": [{"name": path.name, "sha256": sha256_file(path)} for path in paths],
        "documents": tally.documents,
        "split": tally.split,
        "truncated": tally.truncated,
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
        "dropped": {},
    }
    return _write(out, {"train": rows}, {"train": details}, report)


def check_target(out: Path) -> None:
    """Raise unless `out` is free or holds an older data set, which may be replaced."""
    if not out.exists() or (out / "data.json").is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise ToolkitError(f"{out} exists and is not a data set", "Choose another -o")


def choose_held_out(documents: Sequence[Document], share: float, seed: int) -> set[int]:
    """Return the indices of the held-out documents: the `share` of lowest hash of seed and content.

    Equal documents end up on the same side, so nothing held out is also trained on. At least one
    document is held out when share > 0, and at least one is left, if there are two different ones.
    """
    digests = [
        hashlib.sha256(f"{seed}:{document.content()}".encode()).digest() for document in documents
    ]
    different = sorted(set(digests))
    if share <= 0 or len(different) < 2:
        return set()
    count = min(max(1, round(share * len(different))), len(different) - 1)
    chosen = set(different[:count])
    return {index for index, digest in enumerate(digests) if digest in chosen}


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
    with atomic_directory(out) as folder:
        files = {}
        for part, values in rows.items():
            path = folder / f"{part}.ptd"
            write_rows(path, values)
            files[path.name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        content = {"version": VERSION, **report, **details, "files": files}
        with atomic_file(folder / "data.json", "w") as file:
            file.write(json.dumps(content, indent=2) + "\n")
    return content


def _padding(tokenizer: Any) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
