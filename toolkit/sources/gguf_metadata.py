"""What a GGUF file says of a model's shape, completed by llama.cpp's defaults and by no others.

A key without a default must be in the file: what a configuration class takes instead is the value
of one model and would silently be that of another.
"""

import gguf
from transformers import PretrainedConfig

from toolkit.errors import ToolkitError
from toolkit.families import Family, head_dimension
from toolkit.families.family import LLAMA_FIELDS

_DEFAULTED = {"vocab_size", "attention.head_count_kv", "rope.dimension_count", "rope.freq_base"}
_FREQ_BASE = 10000.0


class Metadata:
    """The keys of a file's architecture, without the name of it before them."""

    def __init__(self, reader: gguf.GGUFReader, architecture: str) -> None:
        self._architecture = architecture
        prefix = f"{architecture}."
        self._values = {
            name.removeprefix(prefix): entry.contents()
            for name, entry in reader.fields.items()
            if name.startswith(prefix)
        }
        tokens = reader.get_field("tokenizer.ggml.tokens")
        self.tokens = None if tokens is None else len(tokens.data)

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


def read_fields(metadata: Metadata, family: Family) -> dict[str, float]:
    """Return the fields of the configuration that a file states or llama.cpp has a default for.

    Raises:
        ToolkitError: One is missing, or the file has something that the family does not compute.
    """
    keys = {**LLAMA_FIELDS, **(family.gguf.fields or {})}
    for key, neutral in family.gguf.neutral.items():
        if metadata.get(key) not in (None, neutral):
            raise ToolkitError(
                f"{metadata.name(key)}={metadata.get(key)!r} is not supported",
                f"It must be {neutral!r} or left out",
            )
    found = {name: metadata.number(key) for key, name in keys.items() if key not in _DEFAULTED}
    heads = found["num_attention_heads"]
    return {
        **found,
        "num_key_value_heads": metadata.number("attention.head_count_kv", heads),
        "vocab_size": metadata.number("vocab_size", metadata.tokens),
        "rope_theta": metadata.number("rope.freq_base", _FREQ_BASE),
        "head_dim": _head_dim(metadata, found["hidden_size"] // heads),
    }


def apply_fields(config: PretrainedConfig, fields: dict[str, float]) -> None:
    """Set the fields but `rope_theta`, which is part of the rotary parameters."""
    for name, value in fields.items():
        if name not in ("rope_theta", "head_dim"):
            setattr(config, name, value)
    # Not every configuration has this field, and where all agrees none needs it.
    if getattr(config, "head_dim", None) or fields["head_dim"] != head_dimension(config):
        config.head_dim = fields["head_dim"]


def _head_dim(metadata: Metadata, default: float) -> float:
    width = metadata.number("attention.key_length", default)
    for key in ("attention.value_length", "rope.dimension_count"):
        own = metadata.number(key, width)
        if own != width:
            raise ToolkitError(
                f"{metadata.name(key)}={own} in the GGUF file differs from the width of a head, "
                f"{width}",
                "Only heads that turn as a whole, values as wide as keys, are supported",
            )
    return width
