"""Token pieces to rows of fixed length: shift the labels, split, pack, pad.

A piece is one document or a part of one: tokens [n] and a mask of the tokens to learn. It becomes
n - 1 inputs, where labels[t] = tokens[t + 1] if that token is to be learned, else -100.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """Tokens int32 [n] and mask bool [n], true where the token is to be learned."""

    tokens: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Piece:
    """Inputs int32 [n] and labels int32 [n] of a document or part of one, n <= sequence length.

    `source` is where the document came from, for people.
    """

    inputs: np.ndarray
    labels: np.ndarray
    source: str = ""


@dataclass(frozen=True)
class Rows:
    """Training rows, each int32 [S, T], named as in the data files.

    Attributes:
        tokens: Input tokens, right-padded.
        labels: What each position must predict, -100 where nothing is learned.
        positions: Position within the document, over padding that of the last token: some models
            turn by other frequencies when a position is beyond a limit.
        start: Index of the first token of the position's document: the first key it may attend to.
    """

    tokens: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    start: np.ndarray


def to_piece(encoded: Encoded, source: str = "") -> Piece:
    """Shift the labels and cut what follows the last learned token, which no loss depends on."""
    labels = np.where(encoded.mask[1:], encoded.tokens[1:], IGNORED).astype(np.int32)
    learned = np.flatnonzero(labels != IGNORED)
    length = int(learned[-1]) + 1 if len(learned) else 0
    return Piece(encoded.tokens[:length].astype(np.int32), labels[:length], source)


def split(encoded: Encoded, seq_len: int) -> list[Encoded]:
    """Cut into parts of up to seq_len + 1 tokens that share one token at each cut.

    The shared token is the last label of one part and the first input of the next, so every token
    after the first is learned exactly once.
    """
    last = len(encoded.tokens) - 1
    return [
        Encoded(encoded.tokens[i : i + seq_len + 1], encoded.mask[i : i + seq_len + 1])
        for i in range(0, max(last, 1), seq_len)
    ]


def truncate(encoded: Encoded, seq_len: int) -> Encoded:
    """Keep the first seq_len + 1 tokens: seq_len inputs and their labels."""
    return Encoded(encoded.tokens[: seq_len + 1], encoded.mask[: seq_len + 1])


def pack(pieces: Sequence[Piece], seq_len: int) -> list[list[Piece]]:
    """Put pieces together into rows of up to seq_len inputs, best fit, longest first.

    Rows come in the order of their earliest piece, and pieces within a row in the order given.
    """
    rows: list[list[int]] = []
    waiting: dict[int, list[int]] = defaultdict(list)  # free room -> rows, the latest last
    rooms: list[int] = []  # the keys of `waiting` that have rows, ascending
    for index in sorted(range(len(pieces)), key=lambda i: -len(pieces[i].inputs)):
        size = len(pieces[index].inputs)
        at = bisect_left(rooms, size)
        if at == len(rooms):
            row, room = len(rows), seq_len
            rows.append([])
        else:
            room = rooms[at]
            row = waiting[room].pop()
            if not waiting[room]:
                rooms.pop(at)
        rows[row].append(index)
        if not waiting[room - size]:
            insort(rooms, room - size)
        waiting[room - size].append(row)
    return [[pieces[i] for i in row] for row in sorted(map(sorted, rows))]


def to_rows(groups: Sequence[Sequence[Piece]], seq_len: int, pad: int) -> Rows:
    """Lay groups of pieces out as rows of seq_len, padded on the right with the token `pad`."""
    shape = (len(groups), seq_len)
    tokens = np.full(shape, pad, dtype=np.int32)
    labels = np.full(shape, IGNORED, dtype=np.int32)
    start = np.zeros(shape, dtype=np.int32)
    last = np.zeros((len(groups), 1), dtype=np.int32)
    for row, group in enumerate(groups):
        at = 0
        for piece in group:
            end = at + len(piece.inputs)
            tokens[row, at:end] = piece.inputs
            labels[row, at:end] = piece.labels
            start[row, at:] = at  # To the end of the row: padding belongs to the last piece.
            at = end
        last[row] = max(at - 1, 0)
    positions = np.minimum(np.arange(seq_len, dtype=np.int32)[None, :], last) - start
    return Rows(tokens, labels, positions, start)
