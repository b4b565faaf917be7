"""Token files: what `toolkit data` writes, the trainer maps and the oracle reads."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.bundle.flat_tensor import FlatTensorReader, TensorSpec, write_flat_tensor
from toolkit.bundle.identity import tokenizer_tensors
from toolkit.data.samples import Rows
from toolkit.data.splitmix import splitmix64
from toolkit.errors import ToolkitError

NAMES = ("tokens", "labels", "positions", "start")


def write_rows(path: str | Path, rows: Rows, tokenizer: dict[str, str] | None = None) -> None:
    """Write rows as FlatTensor with int32 tensors tokens, labels, positions and start [S, T].

    The trainer refuses rows of another tokenizer (toolkit.data.fingerprint) than the bundle's.
    """
    arrays = (torch.from_numpy(np.ascontiguousarray(array)) for array in astuple(rows))
    tensors = {**dict(zip(NAMES, arrays, strict=True)), **tokenizer_tensors(tokenizer)}
    specs = [TensorSpec(name, tuple(t.shape), t.dtype) for name, t in tensors.items()]
    write_flat_tensor(path, specs, tensors.values())


def read_rows(path: str | Path) -> Rows:
    """Read a token file back.

    Raises:
        ToolkitError: The file lacks one of the four tensors or their shapes or types differ.
    """
    reader = FlatTensorReader(path)
    missing = [name for name in NAMES if name not in set(reader.keys())]
    if missing:
        raise ToolkitError(f"{path} is not a token file: it lacks {', '.join(missing)}")
    arrays = [_int32(reader.tensor(name), path) for name in NAMES]
    if len({array.shape for array in arrays}) != 1:
        raise ToolkitError(f"{path} is damaged: its tensors differ in shape")
    return Rows(*arrays)


def count_rows(path: str | Path) -> int:
    """Return how many rows a token file has, read from its head alone.

    Raises:
        ToolkitError: It is not a token file.
    """
    shapes = {spec.name: spec.shape for spec in FlatTensorReader(path).specs()}
    if NAMES[0] not in shapes:
        raise ToolkitError(f"{path} is not a token file: it lacks {NAMES[0]}")
    return shapes[NAMES[0]][0]


def first_rows(rows: Rows, count: int) -> Rows:
    """Return the first `count` rows, or all if there are fewer."""
    return Rows(*(array[:count] for array in astuple(rows)))


def random_rows(count: int, seq_len: int, vocab: int, seed: int) -> Rows:
    """Return rows of uniformly random tokens, every position labelled with the next token."""
    # The high 32 bits times vocab, shifted down: a multiply-shift map onto 0..vocab-1.
    high = splitmix64(seed, count * (seq_len + 1)) >> np.uint64(32)
    drawn = ((high * np.uint64(vocab)) >> np.uint64(32)).astype(np.int32)
    drawn = drawn.reshape(count, seq_len + 1)
    positions = np.broadcast_to(np.arange(seq_len, dtype=np.int32), (count, seq_len)).copy()
    return Rows(drawn[:, :-1].copy(), drawn[:, 1:].copy(), positions, np.zeros_like(positions))


def _int32(tensor: Tensor, path: str | Path) -> np.ndarray:
    if tensor.dtype != torch.int32 or tensor.dim() != 2:
        raise ToolkitError(f"{path} is not a token file: int32 [S, T] tensors are expected")
    return tensor.numpy().copy()
