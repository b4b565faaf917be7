"""Rotary position parameters, taken from the `transformers` implementation."""

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from toolkit.errors import ToolkitError

# These scale the frequencies once; the others change them with the length of the input.
STATIC_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Rope:
    """Inverse frequencies, float32 [head_dim / 2], and the factor on cos and sin."""

    inv_freq: torch.Tensor
    scaling: float


def plain_rope(config: PretrainedConfig) -> Rope:
    """Return the rotary parameters that all layers of a model share.

    Raises:
        ToolkitError: The rope type depends on the length of the input, or turns a part of a head.
    """
    parameters = config.rope_parameters
    if "rope_theta" not in parameters:
        raise ToolkitError(
            f"RoPE parameters for {', '.join(map(str, parameters)) or 'nothing'} are not supported",
            "All layers must share one rope_theta",
        )
    kind = parameters.get("rope_type", "default")
    if kind not in STATIC_TYPES:
        raise ToolkitError(
            f"RoPE type '{kind}' is not supported", f"Supported are {', '.join(STATIC_TYPES)}"
        )
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise ToolkitError(
            f"partial_rotary_factor={parameters['partial_rotary_factor']} is not supported",
            "It must be 1.0 or left out",
        )
    rotary = LlamaRotaryEmbedding(config)
    return Rope(rotary.inv_freq.float(), float(rotary.attention_scaling))
