"""Rotary position parameters, taken from the `transformers` implementation of the family."""

import torch
from transformers import PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from toolkit.errors import ToolkitError

# These scale the frequencies once; the others change them with the length of the input.
STATIC_TYPES = ("default", "linear", "llama3", "yarn")


def rope_parameters(config: PretrainedConfig) -> tuple[torch.Tensor, float]:
    """Return the inverse frequencies, float32 [head_dim / 2], and the factor on cos and sin.

    Raises:
        ToolkitError: The rope type depends on the length of the input.
    """
    kind = config.rope_parameters.get("rope_type", "default")
    if kind not in STATIC_TYPES:
        raise ToolkitError(
            f"RoPE type '{kind}' is not supported", f"Supported are {', '.join(STATIC_TYPES)}"
        )
    rotary = LlamaRotaryEmbedding(config)
    return rotary.inv_freq.float(), float(rotary.attention_scaling)
