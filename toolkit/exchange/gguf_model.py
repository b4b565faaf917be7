"""A whole GGUF model with an adapter folded in; what has no adapter is copied byte by byte."""

from collections.abc import Callable
from pathlib import Path

import gguf

from toolkit.bundle.output import check_space
from toolkit.errors import ToolkitError
from toolkit.exchange.base import Base
from toolkit.exchange.delta import Delta, LowRankPair, read_delta
from toolkit.exchange.gguf_rows import FILE_TYPES, add_info, encoded, stored_bytes
from toolkit.exchange.gguf_whole import write_whole
from toolkit.exchange.merging import Merged
from toolkit.exchange.output import MERGED, check_file_target
from toolkit.files import atomic_path
from toolkit.sources.base import Source
from toolkit.sources.gguf import GgufSource
from toolkit.sources.gguf_names import stored_names


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
        base: The adapter's model.
        kind: One of `gguf_blocks.KINDS`: the type of the weights that the adapter changes where the
            model is a GGUF file ("auto": q8_0), else of all (see `write_whole`).
        on_bytes: Told how much of how much is written.

    Raises:
        ToolkitError: The adapter is not one of the model, there is no room, or as `write_whole`.
    """
    source = base.source
    if not isinstance(source, GgufSource):
        check_file_target(output, MERGED)
        return write_whole(adapter, output, base, kind, on_bytes)
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
    return stored_bytes(_shape(tensor), kind)


def _shape(tensor: gguf.ReaderTensor) -> tuple[int, ...]:
    return tuple(int(size) for size in reversed(tensor.shape.tolist()))


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
            value = int(FILE_TYPES[kind])
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
    add_info(writer, tensor.name, _shape(tensor), kind)


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
        data = tensor.data if pair is None else encoded(source, pair.weight, pair, kind)
        writer.write_tensor_data(data)
        done += data.nbytes
        on_bytes(done)
    writer.close()


def _value(reader: gguf.GGUFReader, name: str) -> object:
    field = reader.get_field(name)
    return None if field is None else field.contents()
