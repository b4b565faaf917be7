"""Rotary position parameters, taken from the `transformers` implementation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from toolkit.errors import ToolkitError

# These scale the frequencies once; the others change them with the length of the input.
STATIC_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Rope:
    """Inverse frequencies, float32 [r / 2] for r features that turn, and the factor on cos and sin.

    With two rows, [2, r / 2], the second is for rows of tokens with a position of `original` or
    above.
    """

    inv_freq: torch.Tensor
    scaling: float
    original: int = 0


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
    _check_type(parameters, STATIC_TYPES)
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise ToolkitError(
            f"partial_rotary_factor={parameters['partial_rotary_factor']} is not supported",
            "It must be 1.0 or left out",
        )
    rotary = LlamaRotaryEmbedding(config)
    return Rope(rotary.inv_freq.float(), float(rotary.attention_scaling))


def partial_rope(config: PretrainedConfig) -> Rope:
    """Return the same where a part of each head turns, or other frequencies for long inputs.

    Raises:
        ToolkitError: The rope type is another one.
    """
    parameters = config.rope_parameters
    kind = _check_type(parameters, (*STATIC_TYPES, "longrope"))
    rotary = Phi3RotaryEmbedding(config)
    short, scaling = rotary.inv_freq.float(), float(rotary.attention_scaling)
    if kind != "longrope":
        return Rope(short, scaling)
    original = int(parameters["original_max_position_embeddings"])
    device = torch.device("cpu")
    long, _ = ROPE_INIT_FUNCTIONS[kind](config, device, seq_len=original + 1)
    return Rope(torch.stack([short, long.float()]), scaling, original)


def _check_type(parameters: Mapping[str, Any], supported: tuple[str, ...]) -> str:
    kind = str(parameters.get("rope_type", "default"))
    if kind not in supported:
        raise ToolkitError(
            f"RoPE type '{kind}' is not supported", f"Supported are {', '.join(supported)}"
        )
    return kind


def rope_of_type(config: PretrainedConfig, layer_type: str) -> Rope:
    """Return the rotary parameters of a model's layers of one type.

    Raises:
        ToolkitError: The rope type depends on the length of the input.
    """
    _check_type(config.rope_parameters[layer_type], STATIC_TYPES)
    rotary = Gemma3RotaryEmbedding(config)
    frequencies = rotary.get_buffer(f"{layer_type}_inv_freq").float()
    return Rope(frequencies, float(getattr(rotary, f"{layer_type}_attention_scaling")))
