"""Qwen2 and Qwen2.5: a Llama whose q, k and v have biases."""

from toolkit.families.family import Family
from toolkit.families.parts import attention, gated_mlp, rms_norm

FAMILY = Family(
    model_type="qwen2",
    modeling="transformers.models.qwen2.modeling_qwen2",
    layer="Qwen2DecoderLayer",
    parts={"Qwen2Attention": attention, "Qwen2MLP": gated_mlp, "Qwen2RMSNorm": rms_norm},
)
