"""Phi-3 and Phi-4-mini: q, k and v from one projection, gate and up from another.

A part of each head turns in Phi-4-mini; both have other frequencies for inputs longer than what the
model was first trained with (longrope). In Phi-3-mini-4k queries see a window of keys.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from transformers import PretrainedConfig

from toolkit.families.family import Family, Gguf
from toolkit.families.parts import Attention, fused_attention, fused_mlp, rms_norm
from toolkit.families.rope import partial_rope


def _attention(module: Any, path: str, config: PretrainedConfig) -> Attention:
    return replace(fused_attention(module, path, config), window=config.sliding_window)


def _gguf_fields(_keys: Mapping[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    rope = fields["rope_parameters"]
    changes = {"sliding_window": fields["sliding_window"] or None}  # 0 where there is none
    if "original_max_position_embeddings" in rope:  # of both, the configuration prefers its own
        changes["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    return changes


FAMILY = Family(
    model_type="phi3",
    modeling="transformers.models.phi3.modeling_phi3",
    layer="Phi3DecoderLayer",
    parts={"Phi3Attention": _attention, "Phi3MLP": fused_mlp, "Phi3RMSNorm": rms_norm},
    ropes=lambda config: {"rope": partial_rope(config)},
    gguf=Gguf(
        fields={"attention.sliding_window": "sliding_window"},
        rope=frozenset({"default", "longrope"}),
        partial=True,
        complete=_gguf_fields,
    ),
)
