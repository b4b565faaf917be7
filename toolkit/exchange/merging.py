"""A Hugging Face model directory with an adapter folded into its weights: W + s B A."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from toolkit.bundle.layout import Part
from toolkit.bundle.model_config import save_config
from toolkit.bundle.output import check_space
from toolkit.bundle.weights import checked_parts
from toolkit.errors import ToolkitError
from toolkit.exchange.base import Base
from toolkit.exchange.card import write_merged_card
from toolkit.exchange.delta import Delta, merged_rows, read_delta
from toolkit.exchange.output import new_model_directory
from toolkit.exchange.safetensors_writer import DTYPES, Entry, write_model
from toolkit.sources import Source

FLOATS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_SHARD_BYTES = 5_000_000_000
_LARGEST = {torch.float16: 65504.0}


@dataclass(frozen=True)
class Merged:
    """What was written.

    Attributes:
        path: The directory or file.
        base: Which weights the adapter was added to, in words.
        original: Whether those are the model's own.
        weights: How many got an adapter.
        kind: Type of the numbers: "f32", "f16", "bf16", or a GGUF type of the merged weights.
        nbytes: Size of the weights.
        left_out: Number of values of every part of the base that is not text and is not written.
    """

    path: Path
    base: str
    original: bool
    weights: int
    kind: str
    nbytes: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def merge_to_directory(
    adapter: Path,
    output: Path,
    base: Base,
    kind: str = "auto",
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> Merged:
    """Write a model that needs no adapter any more; `output` is complete or as it was.

    Args:
        adapter: Folder of a PEFT adapter.
        output: Directory to make; a model there that was merged before is replaced.
        base: The adapter's model.
        kind: A key of `FLOATS`, or "auto": what the base has, float16 where that is not said.
        on_bytes: Told how much of how much is written.

    Raises:
        ToolkitError: The adapter is not one of the model, or there is no room.
    """
    source = base.source
    dtype = _dtype(source, kind)
    parts = checked_parts(source)
    delta = read_delta(adapter, source.config)
    entries = [_entry(source, part, delta, dtype) for part in parts]
    total = sum(entry.nbytes(dtype) for entry in entries)
    check_space(output, total, "model")
    done = 0

    def count(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        on_bytes(done, total)

    with new_model_directory(output, (adapter, Path(source.origin))) as directory:
        source.config.dtype = dtype
        save_config(directory, source.config)
        source.save_tokenizer(directory)
        if generation := source.generation_config():
            shutil.copyfile(generation, directory / generation.name)
        write_model(directory, entries, dtype, shard_bytes=_SHARD_BYTES, on_bytes=count)
        name = {value: key for key, value in FLOATS.items()}[dtype]
        words, count_of = base.describe(), len(delta.pairs)
        merged = Merged(output, words, base.original, count_of, name, total, source.left_out)
        write_merged_card(directory, output, adapter, base, DTYPES[dtype])
    return merged


def _dtype(source: Source, kind: str) -> torch.dtype:
    if kind != "auto":
        return FLOATS[kind]
    stated = getattr(source.config, "dtype", None)
    if isinstance(stated, str):
        stated = getattr(torch, stated, None)
    return next((dtype for dtype in FLOATS.values() if dtype == stated), torch.float16)


def _entry(source: Source, part: Part, delta: Delta, dtype: torch.dtype) -> Entry:
    return Entry(part.source, part.shape, partial(_rows, source, part, delta, dtype))


def _rows(source: Source, part: Part, delta: Delta, dtype: torch.dtype) -> Iterator[Tensor]:
    for _, rows in merged_rows(source, part.source, delta.pairs.get(part.source)):
        if not rows.abs().amax() <= _LARGEST.get(dtype, float("inf")):
            raise ToolkitError(
                f"{part.source} has values beyond the range of float16", "Choose --type bf16"
            )
        yield rows
