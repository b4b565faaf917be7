"""Weights with their adapter as the bytes of a GGUF file, rows in the file's order."""

import math

import gguf
import numpy as np

from toolkit.errors import ToolkitError
from toolkit.exchange.delta import LowRankPair, merged_rows
from toolkit.exchange.gguf_blocks import Bytes, encode, kind_of
from toolkit.sources.base import Source
from toolkit.sources.gguf_names import row_order

_LARGEST = 65504.0
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
}
"""What a file says of itself by the type of most of its weights."""


def stored_bytes(shape: tuple[int, ...], kind: str) -> int:
    """Return the size of a tensor in a file."""
    block, size = gguf.GGML_QUANT_SIZES[kind_of(kind)]
    return math.prod(shape) // block * size


def add_info(writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], kind: str) -> None:
    """Announce a tensor whose bytes are written later."""
    # With a type of numpy that is no byte the shape is taken as it is, in elements.
    whole, nbytes = np.dtype(np.float32), stored_bytes(shape, kind)
    writer.add_tensor_info(name, shape, whole, nbytes, raw_dtype=kind_of(kind))


def encoded(
    source: Source, name: str, pair: LowRankPair | None, kind: str, offset: float = 0.0
) -> Bytes:
    """Return a tensor with its adapter and `offset` added, uint8 [N, bytes].

    Raises:
        ToolkitError: The tensor is missing, or has values that the type does not hold.
    """
    n = source.require(name)[0]
    order = row_order(source.config, name, n)
    whole: Bytes | None = None
    for begin, rows in merged_rows(source, name, pair):
        if kind == "f16" and not rows.abs().amax() <= _LARGEST:
            raise ToolkitError(
                f"{name} has values beyond the range of float16", "Choose --type bf16"
            )
        part = encode((rows + offset).reshape(len(rows), -1), kind)
        if whole is None:
            whole = np.empty((n, part.shape[1]), dtype=np.uint8)
        places = slice(begin, begin + len(rows))
        whole[places if order is None else order[places].numpy()] = part
    assert whole is not None
    return whole
