"""Small random models of the supported families."""

import copy
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3_ROPE},
    "smollm3": {"no_rope_layers": [1, 0] * 20},
    "qwen3": {"head_dim": 24},
    "phi3": {
        "sliding_window": 5,
        "original_max_position_embeddings": 16,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.75,
            "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
            "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        },
    },
    "gemma3_text": {
        "num_key_value_heads": 1,
        "head_dim": 48,
        "query_pre_attn_scalar": 20,
        "sliding_window": 5,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
    },
    "granite": {
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "attention_multiplier": 0.1,
        "logits_scaling": 3.0,
    },
}
"""What makes a family itself, in its smallest form."""


def tiny_config(family: str, *, layers: int = 2, tied: bool = True) -> PretrainedConfig:
    """Return a configuration with grouped-query attention and a vocabulary that needs padding."""
    fields = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 150,
        "max_position_embeddings": 256,
        "tie_word_embeddings": tied,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        **({"pad_token_id": None} if family in ("smollm3", "phi3") else {}),
        **copy.deepcopy(SPECIAL.get(family, {})),
    }
    if family == "gemma3_text":
        fields["layer_types"] = (["sliding_attention", "full_attention"] * layers)[:layers]
    return AutoConfig.for_model(family, **fields)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the norm of the difference over the norm of the expected tensor."""
    difference = (actual.double() - expected.double()).norm()
    return (difference / expected.double().norm().clamp_min(1e-30)).item()
