"""A whole GGUF file of a model that is none, with an adapter folded in."""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
from transformers import PretrainedConfig

from toolkit.bundle.layout import Part
from toolkit.bundle.output import check_space
from toolkit.bundle.weights import checked_parts
from toolkit.errors import ToolkitError
from toolkit.exchange.base import Base
from toolkit.exchange.delta import Delta, read_delta
from toolkit.exchange.gguf_blocks import SCHEME_OF
from toolkit.exchange.gguf_keys import add_keys, check_same_model, rope_factors
from toolkit.exchange.gguf_rows import FILE_TYPES, add_info, encoded, stored_bytes
from toolkit.exchange.gguf_vocabulary import add_vocabulary
from toolkit.exchange.merging import Merged
from toolkit.exchange.output import MERGED
from toolkit.families import family_of
from toolkit.files import atomic_path
from toolkit.sources import Source
from toolkit.sources.gguf import GgufSource
from toolkit.sources.gguf_names import stored_names
from toolkit.sources.tokenizer import open_tokenizer

_EIGHT_BITS = "q8_0"
_HEAD = gguf.TENSOR_NAMES[gguf.MODEL_TENSOR.OUTPUT]


def write_whole(
    adapter: Path,
    output: Path,
    base: Base,
    kind: str = "auto",
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> Merged:
    """Write a GGUF file of a model with its tokenizer; `output` is complete or as it was.

    Args:
        adapter: Folder of a PEFT adapter.
        output: The .gguf file, which may be replaced.
        base: The adapter's model, any but a GGUF file.
        kind: Type of all matrices, one of `gguf_blocks.KINDS`; with 4 bits embedding and head have
            8. "auto" is f16. Norms and biases are float32.
        on_bytes: Told how much of how much is written.

    Raises:
        ToolkitError: A file cannot say what the model is or how its tokenizer splits, the adapter
            is not one of the model, or there is no room.
    """
    source, kind = base.source, "f16" if kind == "auto" else kind
    tensors = _tensors(source)
    delta = read_delta(adapter, source.config)
    total = sum(stored_bytes(part.shape, _kind(part, kind)) for _, part in tensors)
    check_space(output, total, "model")
    with atomic_path(output) as path:
        writer = gguf.GGUFWriter(path, family_of(source.config).gguf_architecture)
        _add_facts(writer, source, adapter, kind)
        add_keys(writer, source.config)
        _add_tokenizer(writer, source)
        _write(writer, source, tensors, delta, kind, lambda done: on_bytes(done, total))
        check_same_model(GgufSource(path).config, _stored_config(source.config))
    words, count = base.describe(), len(delta.pairs)
    return Merged(output, words, base.original, count, kind, total, source.left_out)


def _tensors(source: Source) -> list[tuple[str, Part]]:
    """Return the file's names and what stands there; the embedding twice where it has to."""
    names = stored_names(source.config)
    found = [(names[part.source], part) for part in checked_parts(source)]
    if _needs_head(source.config):
        embedding = next(part for _, part in found if part.kind == "embedding")
        found.append((f"{_HEAD}.weight", replace(embedding, kind="head")))
    return found


def _needs_head(config: PretrainedConfig) -> bool:
    return bool(config.tie_word_embeddings) and family_of(config).gguf.own_head


def _stored_config(config: PretrainedConfig) -> PretrainedConfig:
    """Return what the file says that the model is."""
    if not _needs_head(config):
        return config
    stored = copy.deepcopy(config)
    stored.tie_word_embeddings = False
    return stored


def _kind(part: Part, kind: str) -> str:
    if part.kind == "vector":
        return "f32"
    four_bits = SCHEME_OF.get(kind, "").startswith("int4")
    return _EIGHT_BITS if four_bits and part.kind != "linear" else kind


def _add_facts(writer: gguf.GGUFWriter, source: Source, adapter: Path, kind: str) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(f"{source.name} {adapter.absolute().name}")
    if source.license:
        writer.add_license(source.license)
    writer.add_file_type(int(FILE_TYPES[kind]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_bool(MERGED, True)


def _add_tokenizer(writer: gguf.GGUFWriter, source: Source) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if not source.save_tokenizer(Path(folder)):
            writer.add_tokenizer_model("no_vocab")
            return
        try:
            tokenizer = open_tokenizer(Path(folder))
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise ToolkitError(
                f"The tokenizer of {source.origin} cannot be loaded: {error}"
            ) from error
        add_vocabulary(writer, tokenizer, source.config.vocab_size)


def _write(
    writer: gguf.GGUFWriter,
    source: Source,
    tensors: list[tuple[str, Part]],
    delta: Delta,
    kind: str,
    on_bytes: Callable[[int], None],
) -> None:
    """Write everything that was added, and the tensors one after the other."""
    factors = rope_factors(source.config)
    for name, values in factors.items():
        add_info(writer, name, tuple(values.shape), "f32")
    for name, part in tensors:
        add_info(writer, name, part.shape, _kind(part, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for values in factors.values():
        writer.write_tensor_data(values.numpy())
    done = 0
    for _, part in tensors:
        pair, own = delta.pairs.get(part.source), _kind(part, kind)
        data = encoded(source, part.source, pair, own, part.offset)
        writer.write_tensor_data(data)
        done += data.nbytes
        on_bytes(done)
    writer.close()
