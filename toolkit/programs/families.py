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
    _check_features(config)
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


def _check_features(config: PretrainedConfig) -> None:
    """Refuse what a configuration turns on and our operators do not compute, by name."""
    for name, neutral in _NEUTRAL.items():
        value = getattr(config, name, None)
        if value is not None and value not in neutral:
            raise ToolkitError(
                f"{name}={value!r} is not supported",
                f"It must be {neutral[0]!r}" if neutral else "It must be left out",
            )
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    unknown = sorted(kinds - {"full_attention", "sliding_attention"})
    if unknown:
        raise ToolkitError(
            f"layer_types has {unknown[0]!r}, which is not supported",
            "Every layer must have full_attention",
        )
    window = getattr(config, "sliding_window", None)
    if "sliding_attention" in kinds and (window or 0) < config.max_position_embeddings:
        raise ToolkitError(
            f"Layers with a sliding window of {window} tokens are not supported",
            "Every layer must attend to the whole context",
        )


_NEUTRAL: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu",),
    "mlp_bias": (False,),
    "attention_dropout": (0.0,),
    "hidden_dropout": (0.0,),
    "resid_pdrop": (0.0,),
    "embd_pdrop": (0.0,),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "query_pre_attn_scalar": (),
    "use_qk_norm": (False,),
    "qk_layernorm": (False,),
    "embedding_multiplier": (1.0,),
    "residual_multiplier": (1.0,),
    "attention_multiplier": (),
    "logits_scaling": (1.0,),
    "logit_scale": (1.0,),
    "scale_emb": (1.0,),
    "scale_depth": (),
    "no_rope_layers": (),
}
"""Features of decoder models and the values at which they do nothing; None and absent do too."""
