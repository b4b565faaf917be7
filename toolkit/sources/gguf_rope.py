"""Llama 3's rotary scaling, which a GGUF file holds as factors and `transformers` does not read."""

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from toolkit.errors import ToolkitError

# Llama 3.1 scales by 8, Llama 3.2 by 32; the other three numbers are the same in all releases.
_FACTORS = (8.0, 32.0)
_COMMON = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def restore_rope_scaling(config: PretrainedConfig, factors: Tensor) -> None:
    """Set the configuration's rotary scaling to the one whose frequencies the factors give.

    Args:
        config: Changed in place; has the plain rotary parameters.
        factors: What each inverse frequency is divided by, float32 [head_dim / 2].

    Raises:
        ToolkitError: No known release of Llama 3 has these factors.
    """
    if torch.equal(factors, torch.ones_like(factors)):
        return
    plain = dict(config.rope_parameters)
    theta, head_dim = plain["rope_theta"], 2 * len(factors)
    wanted = theta ** (-torch.arange(0, head_dim, 2).double() / head_dim) / factors.double()
    for factor in _FACTORS:
        config.rope_parameters = {**_COMMON, "rope_theta": theta, "factor": factor}
        frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        if torch.allclose(frequencies.double(), wanted, rtol=1e-4, atol=0):
            return
    config.rope_parameters = plain
    raise ToolkitError(
        "The GGUF file scales rotary positions in a way that is not known",
        "Use the model's safetensors files",
    )
