"""Gemma 3 (text): norms before and behind attention and MLP, most layers with a window.

Norms multiply with one more than their weight, the MLP has gelu, the embedding is multiplied by the
square root of its width (in float32, as `transformers` does for a float32 model). The layers with
a window and those without turn by frequencies of their own.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

from toolkit.errors import ToolkitError
from toolkit.families.family import Family, Gguf
from toolkit.families.parts import REMEDY, Attention, Mlp, gated_mlp, normed_attention, rms_norm
from toolkit.families.rope import Rope, rope_of_type

_LARGEST = 62
_ROPES = {"full_attention": "rope", "sliding_attention": "local_rope"}


def _attention(module: Any, path: str, config: PretrainedConfig) -> Attention:
    part = normed_attention(module, path, config)
    return replace(part, rope=_ROPES[module.layer_type], window=module.sliding_window)


def _mlp(module: nn.Module, path: str, config: PretrainedConfig) -> Mlp:
    if config.hidden_activation != "gelu_pytorch_tanh":
        raise ToolkitError(
            f"hidden_activation={config.hidden_activation!r} is not supported", REMEDY
        )
    return replace(gated_mlp(module, path, config), activation="gelu")


def _kind(layer: nn.Module) -> str:
    attention: Any = layer.get_submodule("self_attn")
    return "local_block" if attention.is_sliding else "global_block"


def _ropes(config: PretrainedConfig) -> dict[str, Rope]:
    present = [kind for kind in _ROPES if kind in config.layer_types]
    return {_ROPES[kind]: rope_of_type(config, kind) for kind in present}


def _gguf_fields(keys: Mapping[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """What llama.cpp takes for granted: one layer of six sees everything, local bases of 10000."""
    layers, pattern = fields["num_hidden_layers"], keys.get("attention.sliding_window_pattern", 6)
    local = pattern
    if isinstance(pattern, int) and pattern > 0:
        local = [bool((i + 1) % pattern) for i in range(layers)]
    if not isinstance(local, list) or len(local) != layers or not fields["sliding_window"]:
        raise ToolkitError(
            f"gemma3.attention.sliding_window={fields['sliding_window']} with the pattern "
            f"{pattern!r:.60} of {layers} layers is not supported",
            "Use the model's safetensors files",
        )
    base = keys.get("rope.freq_base_swa", 10000.0)
    # The scale is by the width of a head, but for the model of 62 layers.
    whole = fields["hidden_size"] // fields["num_attention_heads"]
    return {
        "layer_types": ["sliding_attention" if one else "full_attention" for one in local],
        "query_pre_attn_scalar": whole if layers == _LARGEST else fields["head_dim"],
        "rope_parameters": {
            "full_attention": fields["rope_parameters"],
            "sliding_attention": {"rope_type": "default", "rope_theta": base},
        },
    }


def _gguf_keys(config: PretrainedConfig) -> dict[str, Any]:
    return {
        "attention.sliding_window_pattern": [k == "sliding_attention" for k in config.layer_types],
        "rope.freq_base_swa": float(config.rope_parameters["sliding_attention"]["rope_theta"]),
    }


FAMILY = Family(
    model_type="gemma3_text",
    modeling="transformers.models.gemma3.modeling_gemma3",
    layer="Gemma3DecoderLayer",
    parts={"Gemma3Attention": _attention, "Gemma3MLP": _mlp, "Gemma3RMSNorm": rms_norm},
    kind=_kind,
    embedding_multiplier=lambda config: float(torch.tensor(config.hidden_size**0.5)),
    ropes=_ropes,
    norm_offset=1.0,
    supports=frozenset({"query_pre_attn_scalar", "sliding_attention"}),
    gguf=Gguf(
        architecture="gemma3",
        fields={"attention.sliding_window": "sliding_window"},
        rope=frozenset({"default", "linear", "yarn"}),
        reads=frozenset({"attention.sliding_window_pattern", "rope.freq_base_swa"}),
        complete=_gguf_fields,
        keys=_gguf_keys,
    ),
)
