"""Qwen3 (dense): a Llama whose q and k are normed, head by head, before they turn."""

from toolkit.families.family import Family
from toolkit.families.parts import gated_mlp, normed_attention, rms_norm

FAMILY = Family(
    model_type="qwen3",
    modeling="transformers.models.qwen3.modeling_qwen3",
    layer="Qwen3DecoderLayer",
    parts={"Qwen3Attention": normed_attention, "Qwen3MLP": gated_mlp, "Qwen3RMSNorm": rms_norm},
)
