"""What a GGUF file says of a model's shape, the inverse of `toolkit.sources.gguf_metadata`.

Rotary scaling is keys, and for Llama 3 and longrope tensors of factors, as llama.cpp has it.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import gguf
import torch
from torch import Tensor
from transformers import PretrainedConfig

from toolkit.bundle.layout import parameter_shapes
from toolkit.errors import ToolkitError
from toolkit.families import family_of, head_dimension
from toolkit.families.family import LLAMA_FIELDS
from toolkit.sources.gguf_rope import LLAMA3, LONGROPE

_ROPE = ("rope.dimension_count", "rope.freq_base")
_FLOATS = ("epsilon", "scale", "freq_base", "freq_base_swa", "factor", "beta_fast", "beta_slow")
_YARN = {"beta_fast": "rope.scaling.yarn_beta_fast", "beta_slow": "rope.scaling.yarn_beta_slow"}
_ORIGINAL = "original_max_position_embeddings"
_REMEDY = "Merge to a directory"


def add_keys(writer: gguf.GGUFWriter, config: PretrainedConfig) -> None:
    """Add the keys of a model's shape, with the types that llama.cpp reads."""
    architecture = family_of(config).gguf_architecture
    for key, value in _shape(config).items():
        inner = None
        if isinstance(value, list):
            kind, inner = gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.BOOL
        elif isinstance(value, str):
            kind = gguf.GGUFValueType.STRING
        elif key.endswith(_FLOATS):
            kind = gguf.GGUFValueType.FLOAT32
        else:
            kind = gguf.GGUFValueType.UINT32
        writer.add_key_value(f"{architecture}.{key}", value, kind, sub_type=inner)


def rope_factors(config: PretrainedConfig) -> dict[str, Tensor]:
    """Return the tensors of rotary scaling, float32 [r / 2] for r features that turn."""
    rope = _rope(config)
    kind = rope.get("rope_type", "default")
    if kind == "longrope":
        return {stored: torch.tensor(rope[name]).float() for name, stored in LONGROPE.items()}
    if kind != "llama3":
        return {}
    frequencies = family_of(config).ropes(config)["rope"].inv_freq.double()
    exponents = torch.arange(len(frequencies)).double() / len(frequencies)
    return {LLAMA3: (rope["rope_theta"] ** -exponents / frequencies).float()}


def check_same_model(written: PretrainedConfig, config: PretrainedConfig) -> None:
    """Check that what a file says is the model that was to be written.

    llama.cpp takes something of each family for granted, which files then cannot say otherwise.

    Raises:
        ToolkitError: It is another one; names a part of it.
    """
    family = family_of(config)
    pairs: dict[str, tuple[object, object]] = {
        "parameters": (parameter_shapes(written), parameter_shapes(config)),
        "layers": (family.block_kinds(written), family.block_kinds(config)),
        "rotary positions": (family.ropes(written), family.ropes(config)),
        "embedding": (family.embedding_multiplier(written), family.embedding_multiplier(config)),
        "logits": (family.logits_divisor(written), family.logits_divisor(config)),
    }
    for name, (one, other) in pairs.items():
        if not _same(one, other):
            raise ToolkitError(
                f"a GGUF file of the family '{config.model_type}' cannot say what this model's "
                f"{name} are",
                _REMEDY,
            )


def _shape(config: PretrainedConfig) -> dict[str, Any]:
    family, width, rope = family_of(config), head_dimension(config), _rope(config)
    fields_of = {**LLAMA_FIELDS, **family.gguf.fields}
    found = {key: getattr(config, name, None) for key, name in fields_of.items()}
    found |= {"attention.key_length": width, "attention.value_length": width}
    if "attention.sliding_window" in found:
        found["attention.sliding_window"] = found["attention.sliding_window"] or 0
    turned = float(rope.get("partial_rotary_factor") or 1.0)
    found |= dict(zip(_ROPE, (int(width * turned), float(rope["rope_theta"])), strict=True))
    if family.gguf.partial:
        found["rope.scaling.original_context_length"] = getattr(config, _ORIGINAL, None)
    found |= _scaling(config, rope) | family.gguf.keys(config)
    return {key: value for key, value in found.items() if value is not None}


def _scaling(config: PretrainedConfig, rope: Mapping[str, Any]) -> dict[str, Any]:
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    if kind == "yarn":
        return {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": rope["factor"],
            "rope.scaling.original_context_length": rope.get(_ORIGINAL),
            **{key: rope.get(name) for name, key in _YARN.items()},
        }
    if kind != "longrope":
        return {}
    original = rope[_ORIGINAL]
    growth = config.max_position_embeddings / original
    usual = math.sqrt(1 + math.log(growth) / math.log(original)) if growth > 1 else 1.0
    return {
        "rope.scaling.original_context_length": original,
        "rope.scaling.attn_factor": rope.get("attention_factor") or usual,
    }


def _rope(config: PretrainedConfig) -> Mapping[str, Any]:
    """Return the rotary parameters, those of layers without a window where there are two."""
    rope: Mapping[str, Any] = config.rope_parameters
    full: Mapping[str, Any] | None = rope.get("full_attention")
    return rope if full is None else full


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same but for what float32 rounds off."""
    if isinstance(one, Tensor):
        return one.shape == other.shape and bool(torch.allclose(one, other, rtol=1e-5, atol=0))
    if is_dataclass(one):
        names = [field.name for field in fields(one)]
        return type(one) is type(other) and all(
            _same(getattr(one, name), getattr(other, name)) for name in names
        )
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float):
        return isinstance(other, int | float) and math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)
