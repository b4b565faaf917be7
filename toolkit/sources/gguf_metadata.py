"""What a GGUF file says of a model's shape, completed by llama.cpp's defaults and by no others.

A key without a default must be in the file: what a configuration class takes instead is the value
of one model and would silently be that of another.
"""

from typing import Any

import gguf
import numpy as np

from toolkit.errors import ToolkitError
from toolkit.families import Family
from toolkit.families.family import LLAMA_FIELDS

_DEFAULTED = {"vocab_size", "attention.head_count_kv", "rope.dimension_count", "rope.freq_base"}
_FREQ_BASE = 10000.0
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "expert_count": (0,),
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "attention.sliding_window_pattern": (),
    "attention.key_length_swa": (),
    "attention.value_length_swa": (),
    "attention.scale": (0.0,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,),
    "embedding_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "logit_scale": (0.0, 1.0),
    "use_parallel_residual": (False,),
    "nextn_predict_layers": (0,),
}
"""Keys that change what a model computes, and the values at which they do nothing."""


class Metadata:
    """The keys of a file's architecture, without the name of it before them."""

    def __init__(self, reader: gguf.GGUFReader, architecture: str) -> None:
        self._architecture = architecture
        prefix = f"{architecture}."
        self._values = {
            name.removeprefix(prefix): _value(entry)
            for name, entry in reader.fields.items()
            if name.startswith(prefix)
        }
        tokens = reader.get_field("tokenizer.ggml.tokens")
        self.tokens = None if tokens is None else len(tokens.data)
        special = {"bos": "bos", "eos": "eos", "pad": "padding"}
        # None where there is none: a class has those of one model.
        self.special = {
            f"{name}_token_id": entry and entry.contents()
            for name, key in special.items()
            for entry in [reader.get_field(f"tokenizer.ggml.{key}_token_id")]
        }

    @property
    def all(self) -> dict[str, Any]:
        """Every key with its value; a float32 is the shortest decimal that rounds to it."""
        return self._values

    def keys(self, group: str) -> list[str]:
        """Return the keys that begin with `group`."""
        return [name for name in self._values if name.startswith(group)]

    def name(self, key: str) -> str:
        """Return the whole name of a key."""
        return f"{self._architecture}.{key}"

    def get(self, key: str) -> object:
        """Return a value, or None where the file has none."""
        return self._values.get(key)

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number, or the default where the file has none.

        Raises:
            ToolkitError: It is missing and has no default, or is no single number.
        """
        value = self._values.get(key, default)
        if value is None:
            raise ToolkitError(
                f"The GGUF file lacks {self.name(key)}, which has no default",
                "Convert the model again with llama.cpp's convert_hf_to_gguf.py",
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ToolkitError(
                f"{self.name(key)} in the GGUF file is no single number: {value!r:.60}",
                "Only models whose layers are all of one shape are supported",
            )
        return value


def read_fields(metadata: Metadata, family: Family) -> dict[str, Any]:
    """Return the fields of the configuration that a file states or llama.cpp has a default for.

    Raises:
        ToolkitError: One is missing, or the file has something that the family does not compute.
    """
    keys = {**LLAMA_FIELDS, **family.gguf.fields}
    _check_neutral(metadata, family)
    found = {name: metadata.number(key) for key, name in keys.items() if key not in _DEFAULTED}
    heads = found["num_attention_heads"]
    return {
        **found,
        "num_key_value_heads": metadata.number("attention.head_count_kv", heads),
        "vocab_size": metadata.number("vocab_size", metadata.tokens),
        "rope_theta": metadata.number("rope.freq_base", _FREQ_BASE),
        "head_dim": _head_dim(metadata, found["hidden_size"] // heads, family.gguf.partial),
    }


def _check_neutral(metadata: Metadata, family: Family) -> None:
    """Refuse what changes a model's results and no field of the family holds."""
    read = {*family.gguf.fields, *family.gguf.reads}
    neutral = {key: values for key, values in _NEUTRAL.items() if key not in read}
    neutral |= {key: (value,) for key, value in family.gguf.neutral.items()}
    for key, values in neutral.items():
        value = metadata.get(key)
        if value is None or value in values:
            continue
        # A window that no input can leave is none.
        context = metadata.number("context_length")
        if key == "attention.sliding_window" and metadata.number(key) >= context:
            continue
        raise ToolkitError(
            f"{metadata.name(key)}={value!r:.60} is not supported",
            f"It must be {values[0]!r} or left out" if values else "It must be left out",
        )


def _head_dim(metadata: Metadata, default: float, partial: bool) -> float:
    width = metadata.number("attention.key_length", default)
    for key in ("attention.value_length", "rope.dimension_count"):
        own = metadata.number(key, width)
        if own != width and not (partial and key == "rope.dimension_count" and 0 < own < width):
            raise ToolkitError(
                f"{metadata.name(key)}={own} in the GGUF file differs from the width of a head, "
                f"{width}",
                "Only heads that turn as a whole, values as wide as keys, are supported",
            )
    return width


def _value(entry: gguf.ReaderField) -> Any:
    value = entry.contents()
    if entry.types[-1] == gguf.GGUFValueType.FLOAT32:
        # What a configuration had before the file rounded it: 1e-6, not 9.99999997e-07.
        return [shortest(one) for one in value] if isinstance(value, list) else shortest(value)
    return value


def shortest(value: float) -> float:
    """Return the shortest decimal whose float32 is a value's."""
    return float(str(np.float32(value)))
