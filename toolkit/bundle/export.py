"""From a model's source to a bundle directory that is complete or absent."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from toolkit.bundle import adapter as adapters
from toolkit.bundle import layout, manifest, weights
from toolkit.bundle.flat_tensor import TensorSpec, flat_tensor_bytes, write_flat_tensor
from toolkit.bundle.identity import write_identity
from toolkit.bundle.model_config import save_config
from toolkit.bundle.output import check_space, check_target, new_directory
from toolkit.bundle.peft_config import peft_config
from toolkit.bundle.peft_files import peft_prefix
from toolkit.data.fingerprint import describe_tokenizer
from toolkit.errors import ToolkitError
from toolkit.families import family_of, head_dimension
from toolkit.families.rope import Rope
from toolkit.files import atomic_file
from toolkit.lora import LoraSettings
from toolkit.programs import Programs, build_programs
from toolkit.programs.coverage import check_whole_model
from toolkit.programs.kinds import program_kinds
from toolkit.quantization.packing import GROUP
from toolkit.quantization.report import TensorQuality
from toolkit.quantization.report_summary import overall
from toolkit.sources import Source
from toolkit.sources.tokenizer import open_tokenizer


class Progress(Protocol):
    """What an export tells whoever watches it."""

    def stage(self, text: str, total: int = 0) -> None:
        """A new stage begins; `total` is its size in bytes, 0 if it is short."""

    def advance(self, count: int) -> None:
        """So many bytes of the stage are done."""


class Silent:
    """Watches nothing."""

    def stage(self, text: str, total: int = 0) -> None:
        pass

    def advance(self, count: int) -> None:
        pass


@dataclass(frozen=True)
class ExportSettings:
    """What to export.

    Attributes:
        lora: The adapter.
        seq_lens: Sequence lengths, one set of programs each.
        lowering: One of `toolkit.choices.LOWERINGS`.
        quantization: Scheme of the linear layers, or "auto".
        embedding_quantization: Scheme of embedding and head, or "auto".
        seed: Seed of a fresh adapter.
        adapter: Directory of a PEFT adapter to start from.
        generation: Whether to write the programs that generate, beside those that train.
    """

    lora: LoraSettings
    seq_lens: tuple[int, ...]
    lowering: str = "mesp"
    quantization: str = "auto"
    embedding_quantization: str = "auto"
    seed: int = 0
    adapter: Path | None = None
    generation: bool = True


def export_bundle(
    source: Source, output: Path, settings: ExportSettings, progress: Progress | None = None
) -> dict[str, Any]:
    """Write a bundle; an export that fails or is interrupted leaves `output` as it was.

    Args:
        source: Configuration, weights and tokenizer.
        output: Directory to make; an older bundle there is replaced at the end.
        settings: What to export.
        progress: Told about stages and bytes.

    Returns:
        The manifest.

    Raises:
        ToolkitError: The model or a setting is not supported, or the disk is full.
    """
    progress = progress or Silent()
    config = source.config
    seq_lens = _checked_lengths(settings.seq_lens, config.max_position_embeddings)
    parts = _covered_parts(source)
    schemes = weights.choose_schemes(
        source, parts, settings.quantization, settings.embedding_quantization
    )
    settings = replace(settings, lora=family_of(config).resolve(config, settings.lora))
    adapter_specs = layout.adapter_specs(config, settings.lora)
    if settings.adapter is not None:
        adapters.check_peft_weights(settings.adapter, adapter_specs)
    ropes = family_of(config).ropes(config)
    base_specs = layout.base_specs(parts, schemes, ropes)
    check_target(output)
    check_space(output, flat_tensor_bytes([*base_specs, *adapter_specs]))

    progress.stage("Lowering programs")
    programs = build_programs(
        config,
        seq_lens=seq_lens,
        lora=settings.lora,
        lowering=settings.lowering,
        schemes=schemes,
        model_name=source.name,
        generation=settings.generation,
    )
    quality: list[TensorQuality] = []
    with new_directory(output) as directory:
        with atomic_file(directory / manifest.PROGRAMS) as file:
            file.write(programs.buffer)
        progress.stage("Quantizing weights", sum(spec.nbytes for spec in base_specs))
        tensors = _base_tensors(source, parts, schemes, ropes, quality)
        write_flat_tensor(directory / manifest.BASE, base_specs, tensors, on_bytes=progress.advance)
        progress.stage("Writing adapter and tokenizer")
        _write_adapter(directory, source, settings, adapter_specs)
        save_config(directory, source.config)
        tokenizer = _write_tokenizer(directory, source)
        if generation := source.generation_config():  # it names tokens that end a reply
            shutil.copyfile(generation, directory / manifest.GENERATION_CONFIG)
        progress.stage("Hashing")
        _write_identity(directory, tokenizer, source.text_module)
        return manifest.write_manifest(
            directory,
            _content(source, settings, seq_lens, schemes, programs, base_specs, quality)
            | {"lora": _lora_content(settings, adapter_specs), "tokenizer": tokenizer},
        )


def _checked_lengths(seq_lens: tuple[int, ...], context: int) -> list[int]:
    unique = sorted(set(seq_lens))
    if not unique or unique[0] < 1 or unique[-1] > context:
        wrong = next((n for n in unique if not 1 <= n <= context), None)
        raise ToolkitError(
            f"Sequence length {wrong} is not possible" if unique else "No sequence length is given",
            f"Choose from 1 to {context}, the model's context",
        )
    return unique


def _covered_parts(source: Source) -> list[layout.Part]:
    """Return the parts of base.ptd once model and source have nothing beside them."""
    names = (part.source for part in layout.base_parts(source.config))
    check_whole_model(source.config, names)
    return weights.checked_parts(source)


def _base_tensors(
    source: Source,
    parts: list[layout.Part],
    schemes: dict[str, str],
    ropes: dict[str, Rope],
    quality: list[TensorQuality],
) -> Iterator[Tensor]:
    for part, tensors in weights.weight_tensors(source, parts, schemes, quality):
        yield from tensors
        tensors.clear()
        if part.kind == "embedding":
            yield from (rope.inv_freq for rope in ropes.values())


def _write_adapter(
    directory: Path, source: Source, settings: ExportSettings, specs: list[TensorSpec]
) -> None:
    tensors = (
        adapters.initial_adapter(specs, settings.seed)
        if settings.adapter is None
        else adapters.peft_weights(settings.adapter, specs)
    )
    write_flat_tensor(directory / manifest.ADAPTER, specs, tensors)
    layers = source.config.num_hidden_layers
    content = peft_config(
        settings.lora, layers, source.base_model, source.revision, source.text_module
    )
    with atomic_file(directory / manifest.ADAPTER_CONFIG, "w") as file:
        json.dump(content, file, indent=2)


def _write_tokenizer(directory: Path, source: Source) -> dict[str, str] | None:
    if not source.save_tokenizer(directory):
        return None
    # As `toolkit data --tokenizer BUNDLE` loads it: the two descriptions have to agree.
    return describe_tokenizer(open_tokenizer(directory), source.name)


def _write_identity(directory: Path, tokenizer: dict[str, str] | None, text_module: str) -> None:
    names = (manifest.PROGRAMS, manifest.BASE, manifest.ADAPTER)
    programs, base, adapter = (directory / name for name in names)
    prefix = peft_prefix(text_module)
    write_identity(directory / manifest.IDENTITY, programs, base, adapter, tokenizer, prefix)


def _content(
    source: Source,
    settings: ExportSettings,
    seq_lens: list[int],
    schemes: dict[str, str],
    programs: Programs,
    base_specs: list[TensorSpec],
    quality: list[TensorQuality],
) -> dict[str, Any]:
    config = source.config
    entries = [entry.to_json() for entry in quality]
    return {
        "model": {
            "name": source.name,
            "origin": source.origin,
            "export": list(source.export_words),
            "revision": source.revision,
            "license": source.license,
            "random_weights": source.is_random,
            "text_module": source.text_module,
            "left_out": dict(source.left_out),
        },
        "family": config.model_type,
        "shape": {
            "layers": config.num_hidden_layers,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "heads": config.num_attention_heads,
            "kv_heads": config.num_key_value_heads,
            "head_dim": head_dimension(config),
            "vocab_size": config.vocab_size,
            "tied": bool(config.tie_word_embeddings),
        },
        "blocks": {
            kind.block.name: list(kind.block.layers)
            for kind in program_kinds(config, settings.lora)
        },
        "seq_lens": seq_lens,
        "lowering": settings.lowering,
        "lora": {},
        "quantization": {**schemes, "group": GROUP, **overall(entries), "tensors": entries},
        "base": _base_sizes(config.num_hidden_layers, base_specs)
        | {"parameters": _count(layout.parameter_shapes(config).values())},
        "methods": {
            name: {"operators": report.operators, "arena_bytes": report.arena_bytes}
            for name, report in programs.methods.items()
        },
    }


def _lora_content(settings: ExportSettings, specs: list[TensorSpec]) -> dict[str, Any]:
    return {
        **settings.lora.to_json(),
        "dropout": 0.0,
        "parameters": _count(spec.shape for spec in specs),
        "start": f"seed {settings.seed}" if settings.adapter is None else settings.adapter.name,
    }


def _base_sizes(layers: int, specs: list[TensorSpec]) -> dict[str, Any]:
    sizes: dict[str, Any] = {"embedding": 0, "blocks": [0] * layers, "rest": 0}
    for spec in specs:
        first, *more = spec.name.split(".")
        if first == "layers":
            sizes["blocks"][int(more[0])] += spec.nbytes
        else:
            sizes["embedding" if first == "embed_tokens" else "rest"] += spec.nbytes
    return sizes


def _count(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)
