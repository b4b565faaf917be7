"""Token rows with everything a row can have."""

import numpy as np

from toolkit.data.samples import IGNORED, Piece, Rows, to_rows


def mixed_rows(seq_len: int, vocab: int, seed: int = 0) -> Rows:
    """Return four rows: full, padded, packed with padding, and a short one; some labels ignored."""
    random = np.random.default_rng(seed)

    def piece(length: int) -> Piece:
        tokens = random.integers(0, vocab, length + 1, dtype=np.int32)
        labels = np.where(random.random(length) < 0.3, IGNORED, tokens[1:]).astype(np.int32)
        labels[-1] = tokens[-1]
        return Piece(tokens[:-1], labels)

    third = seq_len // 3
    groups = [
        [piece(seq_len)],
        [piece(2 * third)],
        [piece(third), piece(1), piece(third - 2)],
        [piece(1)],
    ]
    return to_rows(groups, seq_len, pad=vocab - 1)
