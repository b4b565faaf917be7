"""Phi-3 and Phi-4-mini: q, k and v from one projection, gate and up from another.

A part of each head turns in Phi-4-mini; both have other frequencies for inputs longer than what the
model was first trained with (longrope). In Phi-3-mini-4k queries see a window of keys.
"""

from dataclasses import replace
from typing import Any

from transformers import PretrainedConfig

from toolkit.families.family import LLAMA_FIELDS, Family, Gguf
from toolkit.families.parts import Attention, fused_attention, fused_mlp, rms_norm
from toolkit.families.rope import partial_rope


def _attention(module: Any, path: str, config: PretrainedConfig) -> Attention:
    window = config.sliding_window or None  # 0 in GGUF files of models without one
    return replace(fused_attention(module, path, config), window=window)


FAMILY = Family(
    model_type="phi3",
    modeling="transformers.models.phi3.modeling_phi3",
    layer="Phi3DecoderLayer",
    parts={"Phi3Attention": _attention, "Phi3MLP": fused_mlp, "Phi3RMSNorm": rms_norm},
    ropes=lambda config: {"rope": partial_rope(config)},
    gguf=Gguf(fields={**LLAMA_FIELDS, "attention.sliding_window": "sliding_window"}),
)
