"""Which tensors base.ptd and adapter.ptd hold, in the order of the file.

Shapes and order come from the family's own decoder layer. Order of base.ptd: embedding, rotary
frequencies, the layers one after the other, final norm, head. Within a layer: in the order in which
a forward pass of the layer uses them.
"""

from dataclasses import dataclass, replace

import torch
from transformers import PretrainedConfig

from toolkit.bundle.flat_tensor import TensorSpec
from toolkit.families import BlockKind, family_of, resolve
from toolkit.families.parts import Linear, Norm
from toolkit.families.rope import Rope
from toolkit.lora import LoraSettings
from toolkit.quantization.layout import weight_layout


@dataclass(frozen=True)
class Part:
    """A weight of the model.

    Attributes:
        key: Its key in base.ptd; a quantized weight's tensors are KEY.codes, .scale, .offset.
        source: The name of the parameter in `transformers`.
        kind: "linear", "embedding", "head", or "vector" for what stays float32.
        shape: Shape of the parameter.
        offset: What base.ptd has is the parameter plus this.
    """

    key: str
    source: str
    kind: str
    shape: tuple[int, ...]
    offset: float = 0.0

    def specs(self, schemes: dict[str, str]) -> list[TensorSpec]:
        """Return the tensors that represent this weight in base.ptd."""
        if self.kind == "vector":
            return [TensorSpec(self.key, self.shape, torch.float32)]
        tensors = weight_layout(schemes[self.kind]).tensors(*self.shape)
        return [
            TensorSpec(f"{self.key}.{name}", shape, dtype)
            for name, (shape, dtype) in tensors.items()
        ]


def base_parts(config: PretrainedConfig) -> list[Part]:
    """Return every weight of a model in the order of base.ptd, rotary frequencies aside.

    Raises:
        ToolkitError: The family or one of its features is not supported.
    """
    vocabulary = (config.vocab_size, config.hidden_size)
    family = family_of(config)
    parts = [Part("embed_tokens", "model.embed_tokens.weight", "embedding", vocabulary)]
    for i, kind in enumerate(_by_layer(family.block_kinds(config))):
        parts += [
            replace(part, key=f"layers.{i}.{part.key}", source=f"model.layers.{i}.{part.source}")
            for part in _layer_parts(kind, family.norm_offset)
        ]
    size = (config.hidden_size,)
    parts.append(Part("norm.weight", "model.norm.weight", "vector", size, family.norm_offset))
    if not config.tie_word_embeddings:
        parts.append(Part("lm_head", "lm_head.weight", "head", vocabulary))
    return parts


def base_specs(
    parts: list[Part], schemes: dict[str, str], ropes: dict[str, Rope]
) -> list[TensorSpec]:
    """Return every tensor of base.ptd in order, with the frequencies of the family's ropes."""
    embedding, *rest = [part.specs(schemes) for part in parts]
    frequencies = [
        TensorSpec(f"{name}.inv_freq", tuple(rope.inv_freq.shape), torch.float32)
        for name, rope in ropes.items()
    ]
    return [*embedding, *frequencies, *(spec for specs in rest for spec in specs)]


def parameter_shapes(config: PretrainedConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its name in `transformers`."""
    return {part.source: part.shape for part in base_parts(config)}


def adapter_specs(config: PretrainedConfig, lora: LoraSettings) -> list[TensorSpec]:
    """Return every tensor of adapter.ptd in the order in which `peft` creates them.

    A is float32 [R, K], B float32 [N, R] for a projection with K inputs and N outputs.

    Raises:
        ToolkitError: A target or layer does not exist.
    """
    kinds = family_of(config).block_kinds(config)
    lora = resolve(kinds, lora)
    by_layer = _by_layer(kinds)
    specs = []
    for i in lora.layers_of(len(by_layer)):
        for path, part in by_layer[i].linears.items():
            target = path.rsplit(".", 1)[-1]
            if target not in lora.targets:
                continue
            prefix, rank = f"layers.{i}.{path}", lora.rank_of(target)
            specs.append(TensorSpec(f"{prefix}.lora_A.weight", (rank, part.k), torch.float32))
            specs.append(TensorSpec(f"{prefix}.lora_B.weight", (part.n, rank), torch.float32))
    return specs


def _by_layer(kinds: list[BlockKind]) -> list[BlockKind]:
    kind_of = {layer: kind for kind in kinds for layer in kind.layers}
    return [kind_of[layer] for layer in range(len(kind_of))]


def _layer_parts(kind: BlockKind, norm_offset: float) -> list[Part]:
    """Return one layer's weights, names relative to the layer."""
    found: list[Part] = []
    for path in kind.order:
        part, weight = kind.parts[path], f"{path}.weight"
        if isinstance(part, Norm):
            found.append(Part(weight, weight, "vector", (part.width,), norm_offset))
        elif isinstance(part, Linear):
            found.append(Part(path, weight, "linear", (part.n, part.k)))
            if part.bias:
                found.append(Part(f"{path}.bias", f"{path}.bias", "vector", (part.n,)))
    return found
