"""Weights as the blocks of a GGUF file, the inverse of `toolkit.sources.gguf_blocks`."""

from collections.abc import Callable

import gguf
import numpy as np
import torch
from torch import Tensor

from toolkit.quantization.packing import GROUP, bits_of, unpack, unpack_groups
from toolkit.quantization.schemes import quantize

Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
SCHEME_OF = {"q4_0": "int4-symmetric", "q4_1": "int4", "q8_0": "int8"}
"""Scheme whose codes are those of a GGUF type."""
KINDS = ("f32", "f16", "bf16", *SCHEME_OF)
"""GGUF types that can be written."""


def kind_of(kind: str) -> gguf.GGMLQuantizationType:
    """Return the gguf package's name of a type."""
    return gguf.GGMLQuantizationType[kind.upper()]


def encode(rows: Tensor, kind: str) -> Bytes:
    """Return rows as a GGUF type has them: uint8 [n, bytes].

    Args:
        rows: float32 [n, K].
        kind: One of `KINDS`.
    """
    if kind not in SCHEME_OF:
        return gguf.quants.quantize(rows.numpy(), kind_of(kind)).view(np.uint8)
    packed = quantize(rows, SCHEME_OF[kind])
    bits = bits_of(packed.codes)
    parts = [unpack(packed.codes, bits), unpack_groups(packed.scale)]
    parts += [] if packed.offset is None else [unpack_groups(packed.offset)]
    return blocks(*(part[: len(rows)] for part in parts))


def blocks(codes: Tensor, scale: Tensor, offset: Tensor | None = None) -> Bytes:
    """Return quantized rows as blocks of 32: Q8_0 for int8 codes, else Q4_1 or Q4_0.

    Args:
        codes: Integers [n, K], int8 or 0..15.
        scale: float16 [n, K/32].
        offset: The same, or None.
    """
    n, k = codes.shape
    grouped = codes.reshape(n, k // GROUP, GROUP)
    head = [_bytes(scale.unsqueeze(-1))]
    if offset is not None:
        head.append(_bytes(offset.unsqueeze(-1)))
    write: Callable[[Tensor], Tensor] = _signed if codes.dtype == torch.int8 else _nibbles
    return torch.cat([*head, write(grouped)], dim=-1).reshape(n, -1).numpy()


def _signed(codes: Tensor) -> Tensor:
    return codes.contiguous().view(torch.uint8)


def _nibbles(codes: Tensor) -> Tensor:
    half = GROUP // 2
    return codes[..., :half] | (codes[..., half:] << 4)


def _bytes(parameters: Tensor) -> Tensor:
    return parameters.to(torch.float16).contiguous().view(torch.uint8)
