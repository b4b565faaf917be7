"""Rows as the model sees them: every token's own text, and what is learned at each position."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from toolkit.data.samples import IGNORED, Rows

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LONGEST = 4  # tokens of one character: bytes of UTF-8


@dataclass(frozen=True)
class Token:
    """One token of a document.

    Attributes:
        text: What it adds to the text: joined, the texts are what the tokens decode to. A character
            of several tokens belongs to the last of them.
        learned: Whether it is a label: what the position before it has to predict.
        special: Whether it is one of the tokenizer's special tokens, and not text that looks so.
    """

    text: str
    learned: bool
    special: bool


@dataclass(frozen=True)
class Shown:
    """A document, or a part of one, in a row.

    Attributes:
        source: Where it came from, "" where that is not known.
        ids: What the model is given, n tokens.
        labels: What it has to predict at each of these positions, -100 where nothing is learned.
        tokens: The n tokens and the last label, which no position is given.
    """

    source: str
    ids: list[int]
    labels: list[int]
    tokens: list[Token]

    def to_json(self) -> dict[str, Any]:
        """Return ids and labels [n], and the texts of both; null where there is no label."""
        texts = [token.text for token in self.tokens]
        return {
            "source": self.source,
            "ids": self.ids,
            "labels": self.labels,
            "texts": texts[: len(self.ids)],
            "label_texts": [
                None if label == IGNORED else texts[position]
                for position, label in enumerate(self.labels, start=1)
            ],
        }


@dataclass(frozen=True)
class Sample:
    """A row: its documents, which do not see each other, and how many tokens of padding follow."""

    documents: list[Shown]
    padding: int

    def to_json(self) -> dict[str, Any]:
        """Return the documents (`Shown.to_json`) and the padding."""
        return {"documents": [d.to_json() for d in self.documents], "padding": self.padding}


def show_rows(
    rows: Rows, tokenizer: Any, count: int, sources: Sequence[Sequence[str]] = ()
) -> list[Sample]:
    """Return the first `count` rows, or all if there are fewer.

    Args:
        rows: Rows whose labels are the tokens that follow, as `to_rows` makes them.
        tokenizer: The tokenizer that made them.
        sources: Where the documents of each row came from, if that is known.
    """
    special = set(tokenizer.all_special_ids) | {
        index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    samples = []
    for row in range(min(count, len(rows.tokens))):
        parts = _documents(rows, row)
        names = sources[row] if sources else [""] * len(parts)
        documents = [
            _shown(rows.tokens[row, part], rows.labels[row, part], name, tokenizer, special)
            for part, name in zip(parts, names, strict=True)
        ]
        samples.append(Sample(documents, rows.tokens.shape[1] - parts[-1].stop))
    return samples


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return what each token adds to the text, special tokens included.

    Joined, the texts are what all tokens decode to. How a token decodes may depend on those before
    it (a first token without its space, a byte of a character), so a text is the difference of two
    decoded stretches that begin with the token before, and counts only where it goes on in the
    whole. A character of several tokens belongs to the last.
    """

    def decode(begin: int, end: int) -> str:
        return str(tokenizer.decode(ids[begin:end], clean_up_tokenization_spaces=False))

    def added(begin: int, before: int, end: int) -> str:
        """Return what a stretch has beyond `before` characters, "" unless the whole has it here."""
        text = decode(begin, end)[before:]
        if text.endswith(_REPLACEMENT):  # part of a character, unless it stays when more come
            longer = decode(begin, end + 1)[before:]
            if len(longer) <= len(text) or not whole.startswith(longer, at):
                return ""
        return text if whole.startswith(text, at) else ""

    whole = decode(0, len(ids))
    texts = [""] * len(ids)
    begin = done = at = 0  # tokens that have their texts, characters given to them
    for end in range(1, len(ids)):
        text = added(begin, len(decode(begin, done)), end)
        waits = end - done < _LONGEST and decode(begin, end).endswith(_REPLACEMENT)
        if not text and not waits:  # bytes that are no characters decode by what surrounds them
            text = added(0, at, end)
        if text:
            texts[end - 1] = text
            begin, done, at = done, end, at + len(text)
    if texts:
        texts[-1] = whole[at:]
    return texts


def _documents(rows: Rows, row: int) -> list[slice]:
    """Return where the documents of a row are; padding, which follows the last label, left out."""
    begins = np.flatnonzero(rows.start[row] == np.arange(rows.start.shape[1]))
    learned = np.flatnonzero(rows.labels[row] != IGNORED)
    end = max(int(learned[-1]) + 1 if len(learned) else 0, int(begins[-1]) + 1)
    return [slice(first, last) for first, last in pairwise([*map(int, begins), end])]


def _shown(
    ids: np.ndarray, labels: np.ndarray, source: str, tokenizer: Any, special: set[int]
) -> Shown:
    last = labels[-1:] if labels[-1] != IGNORED else labels[:0]
    tokens = [*map(int, ids), *map(int, last)]
    learned = [False, *(labels != IGNORED)]
    shown = [
        Token(text, bool(mark), token in special)
        for text, mark, token in zip(token_texts(tokenizer, tokens), learned, tokens, strict=False)
    ]
    return Shown(source, ids.tolist(), labels.tolist(), shown)
