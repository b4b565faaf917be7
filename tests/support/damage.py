"""Damage at random, as bad storage and broken copies leave it."""

from pathlib import Path

import numpy as np

from toolkit.bundle.flat_tensor_header import decode, head_length

_STRETCH = 512
_BURST = 8


def meaningful(path: Path) -> np.ndarray:
    """Return the positions of all bytes that mean something: no padding between tensors."""
    data = path.read_bytes()
    if path.suffix != ".ptd":
        return np.arange(len(data))
    ranges = [(0, head_length(data))]
    ranges += [(e.offset, e.offset + e.nbytes) for e in decode(data, len(data)).values()]
    return np.concatenate([np.arange(*bounds) for bounds in ranges])


def damage(
    path: Path, places: np.ndarray, random: np.random.Generator, *, scattered: bool = True
) -> None:
    """Change one to eight bytes, clear a stretch of bytes, or cut the file off.

    Args:
        path: The file, which is written anew.
        places: Positions to choose from.
        random: What chooses.
        scattered: The changed bytes are anywhere, else beside each other.
    """
    data = bytearray(path.read_bytes())
    before = bytes(data)
    kind = random.integers(10)
    at = int(random.choice(places))
    if kind == 0:
        del data[at:]
    elif kind == 1:
        data[at : at + _STRETCH] = bytes(len(data[at : at + _STRETCH]))
    if bytes(data) == before:
        count = random.integers(1, _BURST + 1)
        first = int(np.searchsorted(places, at))
        chosen = random.choice(places, count) if scattered else places[first : first + count]
        for place in chosen:
            data[place] ^= int(random.integers(1, 256))
    path.write_bytes(data)
