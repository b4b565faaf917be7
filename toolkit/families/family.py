"""One model family: how its decoder layer in `transformers` maps to parts, and what surrounds it.

A new family whose layer needs no new operator is one file with a `FAMILY`. The layer's modules are
told apart by their type; their order, shapes and attributes are those of the real layer, built
without storage; a parameter that no part reads is an error that names it.
"""

import copy
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

from toolkit.errors import ToolkitError
from toolkit.families.features import head_dimension
from toolkit.families.parts import REMEDY, Linear, Mlp, Norm, Part, Reader, linear, uncovered
from toolkit.families.rope import Rope, plain_rope
from toolkit.layers import layers_text
from toolkit.lora import ALL_LINEAR, PROJECTIONS, LoraSettings

LLAMA_FIELDS = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "vocab_size": "vocab_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.dimension_count": "head_dim",
    "rope.freq_base": "rope_theta",
}
"""GGUF metadata of Llama and the architectures derived from it -> fields of the configuration."""


@dataclass(frozen=True)
class Gguf:
    """How a GGUF file holds the family.

    Keys are those of the file's metadata, without the architecture before them.

    Attributes:
        architecture: What the file calls it; "" for `model_type`.
        pairs_rotated: Whether the rows of q and k lie so that rotated pairs are neighbours.
        fields: Keys that its files have beyond `LLAMA_FIELDS`, and the configuration's fields.
        rope: Kinds of rotary scaling that its configuration can hold.
        partial: Whether a part of each head may turn.
        own_head: Whether llama.cpp wants a head in the file even where it is the embedding.
        neutral: Keys that change what llama.cpp computes for this family only, and the value that
            is supported, which is also what a missing key says.
        reads: Keys that `complete` takes care of.
        complete: Returns what of the configuration does not stand in a field: given all keys of the
            file and the fields so far, `rope_parameters` among them.
        keys: The inverse: returns the keys of `reads` for a configuration.
    """

    architecture: str = ""
    pairs_rotated: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    rope: frozenset[str] = frozenset({"default", "linear", "yarn", "llama3"})
    partial: bool = False
    own_head: bool = False
    neutral: Mapping[str, object] = field(default_factory=dict)
    reads: frozenset[str] = frozenset()
    complete: Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Any]] = (
        lambda _keys, _fields: {}
    )
    keys: Callable[[PretrainedConfig], dict[str, Any]] = lambda _config: {}


@dataclass(frozen=True)
class BlockKind:
    """Layers that share one graph.

    Attributes:
        name: Its programs are NAME_forward and NAME_backward.
        layers: Numbers of the layers.
        parts: Path in the layer -> part, in the order in which the layer defines its modules.
        order: Paths of the parts that own weights, in the order in which a forward pass uses them.
        feeding: Paths of the norms whose output is the input of a linear layer.
    """

    name: str
    layers: tuple[int, ...]
    parts: dict[str, Part]
    order: tuple[str, ...]
    feeding: frozenset[str]

    @cached_property
    def linears(self) -> dict[str, Linear]:
        """Path -> linear layer, in the order of definition, which is `peft`'s."""
        return {path: part for path, part in self.parts.items() if isinstance(part, Linear)}

    @cached_property
    def late_norm(self) -> str | None:
        """Path of the norm that an MLP's output goes through, None where it goes through none."""
        mlps = tuple(f"{path}." for path, part in self.parts.items() if isinstance(part, Mlp))
        for before, path in pairwise(self.order):
            if before.startswith(mlps) and isinstance(self.parts[path], Norm):
                return path
        return None


def _one_kind(_layer: nn.Module) -> str:
    return "block"


def _one(_config: PretrainedConfig) -> float:
    return 1.0


def _plain_ropes(config: PretrainedConfig) -> dict[str, Rope]:
    return {"rope": plain_rope(config)}


@dataclass(frozen=True)
class Family:
    """What one `config.model_type` is made of.

    Attributes:
        model_type: `config.model_type`.
        modeling: Module of `transformers` with its classes.
        layer: Class of the decoder layer.
        parts: Class of a module in it -> how to read it; Linear layers need no entry.
        kind: Name of a layer's kind. Layers of one name must have equal parts.
        multipliers: Attributes of the layer, numbers that its forward multiplies with.
        embedding_multiplier: What the embedding is multiplied by.
        logits_divisor: What the logits are divided by.
        ropes: Rotary frequencies by name; in base.ptd they are NAME.inv_freq.
        norm_offset: What the norms add to the weights that a checkpoint holds; base.ptd has sums.
        supports: What of `features` this family takes care of.
        gguf: How a GGUF file holds it.
    """

    model_type: str
    modeling: str
    layer: str
    parts: Mapping[str, Reader]
    kind: Callable[[nn.Module], str] = _one_kind
    multipliers: tuple[str, ...] = ()
    embedding_multiplier: Callable[[PretrainedConfig], float] = _one
    logits_divisor: Callable[[PretrainedConfig], float] = _one
    ropes: Callable[[PretrainedConfig], dict[str, Rope]] = _plain_ropes
    norm_offset: float = 0.0
    supports: frozenset[str] = frozenset()
    gguf: Gguf = field(default_factory=Gguf)

    @property
    def gguf_architecture(self) -> str:
        return self.gguf.architecture or self.model_type

    def decoder_layer(self, config: PretrainedConfig, index: int = 0) -> nn.Module:
        """Build one decoder layer without storage for its weights.

        Raises:
            ToolkitError: `transformers` cannot build it of this configuration.
        """
        layer_class = getattr(importlib.import_module(self.modeling), self.layer)
        try:
            with torch.device("meta"):
                layer: nn.Module = layer_class(config, index)
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
            raise ToolkitError(
                f"transformers cannot build layer {index} of the family '{self.model_type}': "
                f"{str(error).strip().partition(chr(10))[0]}",
                "A value of config.json is missing, null or of a wrong type",
            ) from error
        return layer.eval()

    def block_kinds(self, config: PretrainedConfig) -> list[BlockKind]:
        """Return the kinds of a model's layers in the order in which they first appear.

        Raises:
            ToolkitError: A layer has something that no part reads.
        """
        found: dict[str, BlockKind] = {}
        for index in range(config.num_hidden_layers):
            layer = self.decoder_layer(config, index)
            name, parts = self.kind(layer), self._describe(layer, index, config)
            kind = found.get(name)
            if kind is None:
                found[name] = BlockKind(name, (index,), parts, *_use(layer, parts, config))
            elif kind.parts != parts:
                raise ToolkitError(
                    f"Layer {index} of the family '{self.model_type}' differs from layer "
                    f"{kind.layers[0]}, but both are called '{name}'",
                    REMEDY,
                )
            else:
                found[name] = replace(kind, layers=(*kind.layers, index))
        return list(found.values())

    def resolve(self, config: PretrainedConfig, lora: LoraSettings) -> LoraSettings:
        """Return `resolve` of the model's own kinds of block.

        Raises:
            ToolkitError: Naming targets that a layer does not have, or that there is no such layer.
        """
        return resolve(self.block_kinds(config), lora)

    def _describe(self, layer: nn.Module, index: int, config: PretrainedConfig) -> dict[str, Part]:
        """Return every part of a layer by its path."""
        parts: dict[str, Part] = {}
        for path, module in layer.named_modules():
            name = f"layers.{index}.{path}" if path else f"layers.{index}"
            reader = linear if type(module) is nn.Linear else self.parts.get(type(module).__name__)
            if reader is not None:
                parts[path] = reader(module, name, config)
                continue
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            if own:
                raise uncovered(f"{name}.{own[0][0]}", self.model_type)
        return parts


def resolve(kinds: list[BlockKind], lora: LoraSettings) -> LoraSettings:
    """Return an adapter's settings with its targets by name and its layers by number.

    The seven usual targets, all of them, are what an export takes where nothing else is said: in a
    family that fuses some of them they stand for all that it has, as ALL_LINEAR does.

    Raises:
        ToolkitError: Naming targets that a layer does not have, or that there is no such layer.
    """
    targets = lora.targets
    for kind in kinds:
        names = tuple(dict.fromkeys(path.rsplit(".", 1)[-1] for path in kind.linears))
        usual = targets == PROJECTIONS and not set(targets) <= set(names)
        if targets == (ALL_LINEAR,) or usual:
            targets = names
        unknown = sorted(set(targets) - set(names))
        if unknown:
            raise ToolkitError(
                f"LoRA targets {', '.join(unknown)} do not exist",
                f"Choose from {', '.join(names)}, or {ALL_LINEAR}",
            )
    count = sum(len(kind.layers) for kind in kinds)
    layers = lora.layers_of(count)
    text = "" if len(layers) == count else layers_text(layers)
    return replace(lora, targets=targets, layers=text)


def _use(
    layer: nn.Module, parts: dict[str, Part], config: PretrainedConfig
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Run the layer without storage and return `order` and `feeding` of its kind."""
    order: list[str] = []
    normed: list[tuple[str, Any]] = []
    feeding: set[str] = set()

    def used(path: str, given: tuple[Any, ...], output: Any) -> None:
        order.append(path)
        if isinstance(parts[path], Norm):
            normed.append((path, output))
        else:
            feeding.update(norm for norm, result in normed if result is given[0])

    for path, part in parts.items():
        if isinstance(part, Linear | Norm):
            layer.get_submodule(path).register_forward_hook(
                lambda _module, given, output, path=path: used(path, given, output)
            )
    plain = copy.deepcopy(config)
    plain._attn_implementation = "eager"
    modules: Iterable[Any] = layer.modules()
    for module in modules:
        if getattr(module, "config", None) is config:
            module.config = plain
    tokens = 2
    with torch.device("meta"), torch.no_grad():
        turn = torch.empty(1, tokens, head_dimension(config))
        layer(
            torch.empty(1, tokens, config.hidden_size),
            attention_mask=None,
            position_ids=torch.empty(1, tokens, dtype=torch.long),
            position_embeddings=(turn, turn),
        )
    missing = [
        path for path, p in parts.items() if isinstance(p, Linear | Norm) and path not in order
    ]
    if missing:
        raise uncovered(f"layers.0.{missing[0]}.weight", config.model_type)
    return tuple(order), frozenset(feeding)
