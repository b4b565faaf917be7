"""Which layers share programs: a family's kinds of block, those with adapters and those without."""

from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from toolkit.families import BlockKind, family_of, resolve
from toolkit.lora import LoraSettings

_FROZEN = "_frozen"


@dataclass(frozen=True)
class ProgramKind:
    """Layers that share a forward and, where a backward pass comes by, a backward.

    Attributes:
        block: Its layers; the name ends with "_frozen" where they have no adapters.
        lora: Their adapters, None for none: the backward passes the gradient on alone.
        backward: Whether one of the layers is above the lowest one with adapters.
    """

    block: BlockKind
    lora: LoraSettings | None
    backward: bool


def program_kinds(config: PretrainedConfig, lora: LoraSettings) -> list[ProgramKind]:
    """Return the kinds of a model's layers in the order in which they first appear.

    Raises:
        ToolkitError: A family, feature, target or layer that is not supported.
    """
    kinds = family_of(config).block_kinds(config)
    lora = resolve(kinds, lora)
    adapted = lora.layers_of(config.num_hidden_layers)
    found = []
    for kind in kinds:
        for name, own in ((kind.name, lora), (kind.name + _FROZEN, None)):
            layers = tuple(i for i in kind.layers if (i in adapted) == (own is not None))
            if layers:
                block = replace(kind, name=name, layers=layers)
                found.append(ProgramKind(block, own, layers[-1] >= adapted[0]))
    return sorted(found, key=lambda kind: kind.block.layers[0])
