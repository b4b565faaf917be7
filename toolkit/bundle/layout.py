"""Which tensors base.ptd and adapter.ptd hold, in the order of the file.

Shapes come from the family's own decoder layer. Order of base.ptd: embedding, rotary frequencies,
the layers one after the other, final norm, head. Within a layer: in the order in which a forward
pass uses them, `_LAYER_ORDER`; a parameter that is not in that list is an error
(`toolkit.programs.coverage`).
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig

from toolkit.bundle.flat_tensor import TensorSpec
from toolkit.programs import PROJECTIONS, family_of
from toolkit.quantization.layout import weight_layout

_LAYER_ORDER = (
    "input_layernorm",
    *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")),
    "post_attention_layernorm",
    *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")),
)


@dataclass(frozen=True)
class Part:
    """A weight of the model.

    Attributes:
        key: Its key in base.ptd; a quantized weight's tensors are KEY.codes, .scale, .offset.
        source: The name of the parameter in `transformers`.
        kind: "linear", "embedding", "head", or "vector" for what stays float32.
        shape: Shape of the parameter.
    """

    key: str
    source: str
    kind: str
    shape: tuple[int, ...]

    def specs(self, schemes: dict[str, str]) -> list[TensorSpec]:
        """Return the tensors that represent this weight in base.ptd."""
        if self.kind == "vector":
            return [TensorSpec(self.key, self.shape, torch.float32)]
        tensors = weight_layout(schemes[self.kind]).tensors(*self.shape)
        return [
            TensorSpec(f"{self.key}.{name}", shape, dtype)
            for name, (shape, dtype) in tensors.items()
        ]


ROPE_KEY = "rope.inv_freq"


def base_parts(config: PretrainedConfig) -> list[Part]:
    """Return every weight of a model in the order of base.ptd, rotary frequencies aside.

    Raises:
        ToolkitError: The family or one of its features is not supported.
    """
    vocabulary = (config.vocab_size, config.hidden_size)
    layer = _layer_parts(config)
    parts = [Part("embed_tokens", "model.embed_tokens.weight", "embedding", vocabulary)]
    for i in range(config.num_hidden_layers):
        parts += [
            Part(f"layers.{i}.{key}", f"model.layers.{i}.{source}", kind, shape)
            for key, source, kind, shape in layer
        ]
    parts.append(Part("norm.weight", "model.norm.weight", "vector", (config.hidden_size,)))
    if not config.tie_word_embeddings:
        parts.append(Part("lm_head", "lm_head.weight", "head", vocabulary))
    return parts


def base_specs(
    config: PretrainedConfig, parts: list[Part], schemes: dict[str, str], frequencies: int
) -> list[TensorSpec]:
    """Return every tensor of base.ptd in order; `frequencies` is the length of rope.inv_freq."""
    embedding, *rest = [part.specs(schemes) for part in parts]
    rope = TensorSpec(ROPE_KEY, (frequencies,), torch.float32)
    return [*embedding, rope, *(spec for specs in rest for spec in specs)]


def parameter_shapes(config: PretrainedConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its name in `transformers`."""
    return {part.source: part.shape for part in base_parts(config)}


def adapter_specs(
    config: PretrainedConfig, rank: int, targets: tuple[str, ...]
) -> list[TensorSpec]:
    """Return every tensor of adapter.ptd in the order in which `peft` creates them.

    A is float32 [rank, K], B float32 [N, rank] for a projection with K inputs and N outputs.
    """
    order = [name for name in PROJECTIONS if name in targets]
    shapes = {
        key.rsplit(".", 1)[-1]: (key, shape)
        for key, _, kind, shape in _layer_parts(config)
        if kind == "linear"
    }
    specs = []
    for i in range(config.num_hidden_layers):
        for name in order:
            key, (n, k) = shapes[name]
            prefix = f"layers.{i}.{key}"
            specs.append(TensorSpec(f"{prefix}.lora_A.weight", (rank, k), torch.float32))
            specs.append(TensorSpec(f"{prefix}.lora_B.weight", (n, rank), torch.float32))
    return specs


def _layer_parts(config: PretrainedConfig) -> list[tuple[str, str, str, tuple[int, ...]]]:
    """Return (key, source, kind, shape) of one layer's weights, names relative to the layer."""
    modules = dict(family_of(config).decoder_layer(config).named_modules())
    parts = []
    for name in _LAYER_ORDER:
        module = modules[name]
        weight = f"{name}.weight"
        if not isinstance(module, nn.Linear):
            parts.append((weight, weight, "vector", tuple(module.weight.shape)))
            continue
        parts.append((name, weight, "linear", (module.out_features, module.in_features)))
        if module.bias is not None:
            parts.append((f"{name}.bias", f"{name}.bias", "vector", tuple(module.bias.shape)))
    return parts
