"""Splitting, packing and padding keep every token and every label, and documents apart."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.data.chat import Encoded
from toolkit.data.samples import IGNORED, Piece, pack, split, to_piece, to_rows, truncate

_LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=30)


def encoded(mask: list[bool]) -> Encoded:
    return Encoded(np.arange(100, 100 + len(mask), dtype=np.int32), np.array(mask))


def pieces_of(lengths: list[int]) -> list[Piece]:
    """Pieces whose tokens are unique over all pieces, every third label ignored."""
    pieces, at = [], 0
    for length in lengths:
        inputs = np.arange(at, at + length, dtype=np.int32)
        labels = np.where(inputs % 3 == 0, IGNORED, inputs + 1).astype(np.int32)
        pieces.append(Piece(inputs, labels))
        at += length
    return pieces


def test_labels_are_shifted_and_the_tail_is_cut():
    piece = to_piece(encoded([False, False, True, False, True, False]))
    assert piece.inputs.tolist() == [100, 101, 102, 103]
    assert piece.labels.tolist() == [IGNORED, 102, IGNORED, 104]


def test_the_first_token_is_never_a_label():
    assert len(to_piece(encoded([True])).inputs) == 0
    assert len(to_piece(encoded([True, False])).inputs) == 0


@given(mask=st.lists(st.booleans(), min_size=1, max_size=60), seq_len=st.integers(1, 13))
def test_split_learns_every_token_once(mask, seq_len):
    whole = encoded(mask)
    parts = [to_piece(part) for part in split(whole, seq_len)]
    assert all(len(part.inputs) <= seq_len for part in parts)
    learned = [token for part in parts for token in part.labels.tolist() if token != IGNORED]
    assert learned == whole.tokens[1:][whole.mask[1:]].tolist()
    for part in parts:
        at = part.labels != IGNORED
        assert (part.inputs[at] + 1 == part.labels[at]).all()


def test_truncate_keeps_one_label_per_input():
    assert len(to_piece(truncate(encoded([True] * 9), 4)).inputs) == 4


@settings(deadline=None)
@given(lengths=_LENGTHS, extra=st.integers(0, 8))
def test_packed_rows_hold_every_piece_once_and_apart(lengths, extra):
    seq_len = max(lengths) + extra
    pieces = pieces_of(lengths)
    rows = to_rows(pack(pieces, seq_len), seq_len, pad=-7)
    firsts = {int(piece.inputs[0]): piece for piece in pieces}
    seen = []
    for tokens, labels, positions, start in zip(
        rows.tokens, rows.labels, rows.positions, rows.start, strict=True
    ):
        at = 0
        while at < seq_len and tokens[at] != -7:
            piece = firsts[int(tokens[at])]
            end = at + len(piece.inputs)
            assert tokens[at:end].tolist() == piece.inputs.tolist()
            assert labels[at:end].tolist() == piece.labels.tolist()
            assert positions[at:end].tolist() == list(range(len(piece.inputs)))
            assert (start[at:end] == at).all()
            seen.append(int(tokens[at]))
            last, at = at, end
        assert (tokens[at:] == -7).all() and (labels[at:] == IGNORED).all()
        assert (start[at:] == last).all()
        assert (positions[at:] == at - 1 - last).all()
    assert sorted(seen) == sorted(firsts)


@given(lengths=_LENGTHS)
def test_packing_is_no_worse_than_one_piece_a_row_and_wastes_less_than_half(lengths):
    seq_len = 12
    groups = pack(pieces_of(lengths), seq_len)
    assert len(groups) <= len(lengths)
    # Any two rows of a best-fit packing hold more than one row's worth together.
    assert len(groups) <= 2 * sum(lengths) / seq_len + 1
    order = [int(group[0].inputs[0]) for group in groups]
    assert order == sorted(order)


def test_unpacked_rows_begin_at_zero():
    rows = to_rows([[piece] for piece in pieces_of([3, 5])], 6, pad=0)
    assert (rows.start == 0).all()
    assert rows.positions.tolist() == [[0, 1, 2, 2, 2, 2], [0, 1, 2, 3, 4, 4]]
    for array in (rows.tokens, rows.labels, rows.positions, rows.start):
        assert array.dtype == np.int32 and array.shape == (2, 6)
