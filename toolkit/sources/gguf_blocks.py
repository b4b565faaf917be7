"""GGUF blocks of 32 weights as codes, scales and offsets, bit by bit.

A row of K weights is K/32 blocks, each holding, in this order:

    Q4_0  18 bytes: d float16, 16 bytes of codes        w = d * (code - 8)
    Q4_1  20 bytes: d, m float16, 16 bytes of codes     w = d * code + m
    Q8_0  34 bytes: d float16, 32 int8 codes            w = d * code

Byte j of the 4-bit codes has weight j in its low nibble and weight j + 16 in its high nibble.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from toolkit.errors import ToolkitError
from toolkit.sources.base import Groups


def _half(blocks: Tensor, first: int) -> Tensor:
    return blocks[..., first : first + 2].contiguous().view(torch.float16).squeeze(-1)


def _nibbles(packed: Tensor) -> Tensor:
    return torch.cat([packed & 15, packed >> 4], dim=-1).flatten(1)


def _q4_0(blocks: Tensor) -> Groups:
    return _nibbles(blocks[..., 2:]), _half(blocks, 0), None


def _q4_0_affine(blocks: Tensor) -> Groups:
    scale = _half(blocks, 0)  # times a power of two: exact in float16
    return _nibbles(blocks[..., 2:]), scale, scale * -8


def _q4_1(blocks: Tensor) -> Groups:
    return _nibbles(blocks[..., 4:]), _half(blocks, 0), _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Groups:
    return blocks[..., 2:].contiguous().view(torch.int8).flatten(1), _half(blocks, 0), None


_READERS: dict[tuple[str, str], tuple[int, Callable[[Tensor], Groups]]] = {
    ("Q4_0", "int4-symmetric"): (18, _q4_0),
    ("Q4_0", "int4"): (18, _q4_0_affine),
    ("Q4_1", "int4"): (20, _q4_1),
    ("Q8_0", "int8"): (34, _q8_0),
}
"""Block bytes and reader of a GGUF type for a scheme that holds its values unchanged."""


def is_representable(type_name: str, scheme: str) -> bool:
    """Whether `scheme` holds every value of a GGUF type unchanged."""
    return (type_name, scheme) in _READERS


def read_groups(raw: Tensor, type_name: str, scheme: str) -> Groups:
    """Return codes [n, K], scale and offset [n, K/32] of rows of blocks, uint8 [n, bytes].

    Raises:
        ToolkitError: A scale is not finite.
    """
    block_bytes, reader = _READERS[type_name, scheme]
    codes, scale, offset = reader(raw.unflatten(1, (-1, block_bytes)))
    if not all(part.isfinite().all() for part in (scale, offset) if part is not None):
        raise ToolkitError("A scale in the GGUF file is not finite", "Download the file again")
    return codes, scale, offset
