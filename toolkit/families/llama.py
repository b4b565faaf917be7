"""Llama, and SmolLM and SmolLM2, which are Llamas by another name."""

from toolkit.families.family import Family, Gguf
from toolkit.families.parts import attention, gated_mlp, rms_norm

FAMILY = Family(
    model_type="llama",
    modeling="transformers.models.llama.modeling_llama",
    layer="LlamaDecoderLayer",
    parts={"LlamaAttention": attention, "LlamaMLP": gated_mlp, "LlamaRMSNorm": rms_norm},
    gguf=Gguf(pairs_rotated=True),
)
