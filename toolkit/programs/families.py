"""The model families whose decoder layer can be lowered, one row each.

A family names the real `transformers` decoder layer. `block.py` swaps the layer's linear
projections, norms, attention and MLP for our operators and leaves its forward as it is.
"""

import importlib
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig

from toolkit.errors import ToolkitError

ATTENTION_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
PROJECTIONS = ATTENTION_PROJECTIONS + MLP_PROJECTIONS


@dataclass(frozen=True)
class Family:
    """Where the decoder layer of one `config.model_type` lives."""

    model_type: str
    module: str
    layer_class: str

    def decoder_layer(self, config: PretrainedConfig) -> nn.Module:
        """Build one decoder layer without storage for its weights."""
        layer_class = getattr(importlib.import_module(self.module), self.layer_class)
        with torch.device("meta"):
            return layer_class(config, 0).eval()


FAMILIES = {
    family.model_type: family
    for family in (
        Family("llama", "transformers.models.llama.modeling_llama", "LlamaDecoderLayer"),
        Family("qwen2", "transformers.models.qwen2.modeling_qwen2", "Qwen2DecoderLayer"),
    )
}


def family_of(config: PretrainedConfig) -> Family:
    """Return the family of a configuration after checking that all its features are supported.

    Raises:
        ToolkitError: The family, or a feature that the configuration turns on, is not supported.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ToolkitError(
            f"Model family '{config.model_type}' is not supported",
            f"Supported families: {', '.join(sorted(FAMILIES))}",
        )
    for name, supported in _REQUIRED.items():
        value = getattr(config, name, supported)
        if value != supported:
            raise ToolkitError(f"{name}={value!r} is not supported", f"It must be {supported!r}")
    for name, multiple in (("hidden_size", 32), ("intermediate_size", 32)):
        if getattr(config, name) % multiple:
            raise ToolkitError(
                f"{name}={getattr(config, name)} is not a multiple of {multiple}",
                "The quantization groups are 32 values long",
            )
    head_dim = head_dimension(config)
    for heads in (config.num_attention_heads, config.num_key_value_heads):
        if heads * head_dim % 16:
            raise ToolkitError(
                f"A projection to {heads} heads of {head_dim} is not a multiple of 16 wide",
                "Weights are stored in panels of 16 rows",
            )
    if config.num_attention_heads * head_dim % 32:
        raise ToolkitError(
            f"The attention output is {config.num_attention_heads * head_dim} wide",
            "The quantization groups are 32 values long",
        )
    return family


def head_dimension(config: PretrainedConfig) -> int:
    """Return the width of one attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


_REQUIRED = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "use_sliding_window": False,
    "attention_dropout": 0.0,
}
