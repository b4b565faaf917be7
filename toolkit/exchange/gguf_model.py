"""A whole GGUF model with an adapter folded in; what has no adapter is copied byte by byte."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from toolkit.bundle.output import check_space
from toolkit.errors import ToolkitError
from toolkit.exchange.base import Base
from toolkit.exchange.delta import Delta, LowRankPair, merged_rows, read_delta
from toolkit.exchange.gguf_blocks import Bytes, encode, kind_of
from toolkit.exchange.merging import Merged
from toolkit.exchange.output import MERGED, check_file_target
from toolkit.files import atomic_path
from toolkit.sources.base import Source
from toolkit.sources.gguf import GgufSource
from toolkit.sources.gguf_names import row_order, stored_names

_LARGEST = 65504.0
_FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
}


def merge_to_gguf(
    adapter: Path,
    output: Path,
    base: Base,
    kind: str = "auto",
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> Merged:
    """Write a GGUF file that needs no adapter any more; `output` is complete or as it was.

    Args:
        adapter: Folder of a PEFT adapter.
        output: The .gguf file.
        base: The adapter's model, a GGUF file.
        kind: Type of the weights that the adapter changes, one of `gguf_blocks.KINDS`; "auto" is
            q8_0.
        on_bytes: Told how much of how much is written.

    Raises:
        ToolkitError: The base is no GGUF file, the adapter is not one of it, or there is no room.
    """
    source = base.source
    if not isinstance(source, GgufSource):
        raise ToolkitError(
            f"{source.origin} is no .gguf file, which a merged one is made of",
            "Name the file with --base, or merge to a directory and convert that with "
            "llama.cpp's convert_hf_to_gguf.py",
        )
    kind = "q8_0" if kind == "auto" else kind
    if output.exists() and output.samefile(source.path):
        raise ToolkitError(f"{output} is the base model itself", "Choose another output")
    check_file_target(output, MERGED)
    delta = read_delta(adapter, source.config)
    changed = _changed(source, delta)
    reader = gguf.GGUFReader(source.path)
    sizes = {tensor.name: _nbytes(tensor, changed, kind) for tensor in reader.tensors}
    missing = sorted(name for name in changed if name not in sizes)
    if missing or len(changed) != len(delta.pairs):
        lacking = missing[0] if missing else "a weight"
        raise ToolkitError(
            f"{source.origin} lacks {lacking}, which the adapter changes",
            "Give the whole model in one file",
        )
    total = sum(sizes.values())
    check_space(output, total, "model")
    with atomic_path(output) as path:
        writer = gguf.GGUFWriter(path, str(_value(reader, gguf.Keys.General.ARCHITECTURE)))
        _copy_fields(reader, writer, kind)
        for tensor in reader.tensors:
            _add_info(writer, tensor, changed, kind)
        _write(writer, reader, source, changed, kind, lambda done: on_bytes(done, total))
    return Merged(output, base.describe(), base.original, len(delta.pairs), kind, total)


def _changed(source: Source, delta: Delta) -> dict[str, LowRankPair]:
    """Return the adapter's pairs by the file's names."""
    names = stored_names(source.config)
    return {names[name]: pair for name, pair in delta.pairs.items()}


def _nbytes(tensor: gguf.ReaderTensor, changed: dict[str, LowRankPair], kind: str) -> int:
    if tensor.name not in changed:
        return int(tensor.n_bytes)
    block, size = gguf.GGML_QUANT_SIZES[kind_of(kind)]
    return int(tensor.n_elements) // block * size


def _copy_fields(reader: gguf.GGUFReader, writer: gguf.GGUFWriter, kind: str) -> None:
    """Copy what the file says of itself; the tokenizer is a part of that."""
    for field in reader.fields.values():
        own = (gguf.Keys.General.ARCHITECTURE, MERGED)
        if field.name in own or field.name.startswith("GGUF."):
            continue
        value, types = field.contents(), field.types
        if field.name == gguf.Keys.General.ALIGNMENT:
            writer.add_custom_alignment(value)
            continue
        if value == []:  # which the writer refuses
            continue
        if field.name == gguf.Keys.General.FILE_TYPE:
            value = int(_FILE_TYPES[kind])
        inner = types[-1] if types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, types[0], sub_type=inner)
    writer.add_bool(MERGED, True)


def _add_info(
    writer: gguf.GGUFWriter, tensor: gguf.ReaderTensor, changed: dict[str, LowRankPair], kind: str
) -> None:
    if tensor.name not in changed:
        data = tensor.data
        writer.add_tensor_info(
            tensor.name, data.shape, data.dtype, data.nbytes, raw_dtype=tensor.tensor_type
        )
        return
    shape = [int(size) for size in reversed(tensor.shape.tolist())]
    nbytes = _nbytes(tensor, changed, kind)
    # With a type of numpy that is no byte the shape is taken as it is, in elements.
    whole = np.dtype(np.float32)
    writer.add_tensor_info(tensor.name, shape, whole, nbytes, raw_dtype=kind_of(kind))


def _write(
    writer: gguf.GGUFWriter,
    reader: gguf.GGUFReader,
    source: Source,
    changed: dict[str, LowRankPair],
    kind: str,
    on_bytes: Callable[[int], None],
) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    done = 0
    for tensor in reader.tensors:
        pair = changed.get(tensor.name)
        data = tensor.data if pair is None else _merged(source, pair, kind)
        writer.write_tensor_data(data)
        done += data.nbytes
        on_bytes(done)
    writer.close()


def _merged(source: Source, pair: LowRankPair, kind: str) -> Bytes:
    """Return a weight with its adapter, rows in the file's order: uint8 [N, bytes]."""
    n, _ = source.require(pair.weight)
    order = row_order(source.config, pair.weight, n)
    whole: Bytes | None = None
    for begin, rows in merged_rows(source, pair.weight, pair):
        if kind == "f16" and not rows.abs().amax() <= _LARGEST:
            raise ToolkitError(
                f"{pair.weight} has values beyond the range of float16", "Choose --type bf16"
            )
        part = encode(rows, kind)
        if whole is None:
            whole = np.empty((n, part.shape[1]), dtype=np.uint8)
        places = slice(begin, begin + len(rows))
        whole[places if order is None else order[places].numpy()] = part
    assert whole is not None
    return whole


def _value(reader: gguf.GGUFReader, name: str) -> object:
    field = reader.get_field(name)
    return None if field is None else field.contents()
