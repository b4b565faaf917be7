"""identity.ptd: which files make a bundle, for the trainer, which reads no JSON.

    programs.crc32    int32 [1]   CRC-32 of programs.pte
    programs.sha256   uint8 [32]  SHA-256 of programs.pte
    base.sha256       uint8 [32]  what base.ptd says of its content (toolkit.bundle.checksums)
    adapter.sha256    uint8 [32]  what adapter.ptd says of its content
    adapter.prefix    uint8 [n]   what `peft` puts before the names of adapter.ptd, UTF-8
    tokenizer.sha256  uint8 [32]  the tokenizer's (toolkit.data.fingerprint)
    tokenizer.name    uint8 [n]   the tokenizer's, UTF-8

A bundle without a tokenizer lacks the last two. Token files have the same two tensors. A bundle of
an earlier version lacks the prefix, which is then that of a model of text.
"""

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.bundle.checksums import SHA256_BYTES
from toolkit.bundle.flat_tensor import FlatTensorReader, TensorSpec, write_flat_tensor
from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.files import sha256_file

_ALIGNMENT = 64
_LONGEST_NAME = 200


def write_identity(
    path: Path,
    programs: Path,
    base: Path,
    adapter: Path,
    tokenizer: dict[str, str] | None,
    prefix: str = PEFT_PREFIX,
) -> None:
    """Write identity.ptd for three files; `tokenizer` is what the manifest says of it."""
    crc = np.array([zlib.crc32(programs.read_bytes())], dtype=np.uint32).view(np.int32)
    tensors = {
        "programs.crc32": torch.from_numpy(crc),
        "programs.sha256": _bytes(bytes.fromhex(sha256_file(programs))),
        "base.sha256": _bytes(FlatTensorReader(base).sha256()),
        "adapter.sha256": _bytes(FlatTensorReader(adapter).sha256()),
        "adapter.prefix": _bytes(prefix.encode()),
        **tokenizer_tensors(tokenizer),
    }
    specs = [TensorSpec(name, tuple(t.shape), t.dtype) for name, t in tensors.items()]
    write_flat_tensor(path, specs, tensors.values(), alignment=_ALIGNMENT)


def tokenizer_tensors(tokenizer: dict[str, str] | None) -> dict[str, Tensor]:
    """Return what tells a tokenizer in a .ptd file, nothing where there is none."""
    if tokenizer is None:
        return {}
    digest = bytes.fromhex(tokenizer["sha256"])
    if len(digest) != SHA256_BYTES:
        raise ValueError("not a SHA-256")
    return {
        "tokenizer.sha256": _bytes(digest),
        "tokenizer.name": _bytes(tokenizer["name"].encode()[:_LONGEST_NAME]),
    }


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
