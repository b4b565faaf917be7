"""Granite 3 (dense): a Llama with four multipliers.

The embedding is multiplied, what attention and MLP add to the residual stream too, scores have a
factor of their own instead of one over the square root of a head's width, logits are divided.
"""

from toolkit.families.family import Family, Gguf
from toolkit.families.parts import attention, gated_mlp, rms_norm

FAMILY = Family(
    model_type="granite",
    modeling="transformers.models.granite.modeling_granite",
    layer="GraniteDecoderLayer",
    parts={"GraniteAttention": attention, "GraniteMLP": gated_mlp, "GraniteRMSNorm": rms_norm},
    multipliers=("residual_multiplier",),
    embedding_multiplier=lambda config: config.embedding_multiplier,
    logits_divisor=lambda config: config.logits_scaling,
    supports=frozenset(
        {"embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"}
    ),
    gguf=Gguf(
        pairs_rotated=True,
        fields={
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
        neutral={"rope.scaling.finetuned": True},  # False: no rotary positions
    ),
)
