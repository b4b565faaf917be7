"""SmolLM3: a Llama in which q and k of every fourth layer keep their place (NoPE)."""

from dataclasses import replace

from torch import nn
from transformers import PretrainedConfig

from toolkit.families.family import Family, Gguf
from toolkit.families.parts import Attention, attention, gated_mlp, rms_norm


def _attention(module: nn.Module, path: str, config: PretrainedConfig) -> Attention:
    part = attention(module, path, config)
    return part if module.use_rope else replace(part, rope=None)


def _kind(layer: nn.Module) -> str:
    return "rope_block" if layer.get_submodule("self_attn").use_rope else "nope_block"


FAMILY = Family(
    model_type="smollm3",
    modeling="transformers.models.smollm3.modeling_smollm3",
    layer="SmolLM3DecoderLayer",
    parts={"SmolLM3Attention": _attention, "SmolLM3MLP": gated_mlp, "SmolLM3RMSNorm": rms_norm},
    kind=_kind,
    supports=frozenset({"no_rope_layers"}),
    # llama.cpp, too, turns all layers but every fourth, which its files do not say.
    gguf=Gguf(pairs_rotated=True),
)
