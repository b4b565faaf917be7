"""The text part of a model that also sees or hears: its configuration, its names, what is left out.

Such a configuration has a `text_config`, and its checkpoint the text model under a prefix. Which
module `peft` finds the text layers in, and so the adapter's names, says the class of the model.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

import torch
import transformers
from torch import nn
from transformers import AutoModelForImageTextToText, PretrainedConfig

from toolkit.errors import ToolkitError
from toolkit.families import FAMILIES
from toolkit.lora import TEXT_MODULE
from toolkit.modalities import NOT_TEXT

_EMBEDDING = "embed_tokens.weight"
_HEAD = "lm_head.weight"


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """Return the configuration of the text part, which is the whole for a model of text."""
    text = getattr(config, "text_config", None)
    if not isinstance(text, PretrainedConfig):
        return config
    text = deepcopy(text)
    # The head belongs to the whole model, and so does whether it is tied.
    text.tie_word_embeddings = bool(getattr(config, "tie_word_embeddings", False))
    text.architectures = None
    if getattr(text, "dtype", None) is None:
        text.dtype = getattr(config, "dtype", None)
    return text


@dataclass(frozen=True)
class TextPart:
    """How a checkpoint holds the text part.

    Attributes:
        names: What the checkpoint calls a tensor, by its name in a causal language model of text. A
            tensor that is neither text nor known to be something else has its own name.
        left_out: Tensors of what is not text, by the name of the part they belong to.
        module: Path of the text model in the whole.
    """

    names: dict[str, str]
    left_out: dict[str, list[str]]
    module: str


def text_part(config: PretrainedConfig, stored: Iterable[str]) -> TextPart:
    """Find the text part of a checkpoint.

    Args:
        config: Of the whole model.
        stored: Names of all tensors.

    Raises:
        ToolkitError: There is not exactly one, it has a tensor twice, or the whole model cannot be
            built.
    """
    stored = list(stored)
    prefixes = [name.removesuffix(_EMBEDDING) for name in stored if name.endswith(_EMBEDDING)]
    prefixes = [prefix for prefix in prefixes if not NOT_TEXT.search(prefix)]
    if len(prefixes) != 1:
        raise ToolkitError(
            f"The '{config.model_type}' checkpoint has {len(prefixes) or 'no'} text models",
            f"Exactly one tensor's name must end in {_EMBEDDING}",
        )
    prefix = prefixes[0]
    heads = {_HEAD, f"{prefix}{_HEAD}", f"{prefix.removesuffix('model.')}{_HEAD}"}
    names: dict[str, str] = {}
    left_out: dict[str, list[str]] = {}
    for name in stored:
        own = name
        if name in heads:
            own = _HEAD
        elif name.startswith(prefix):
            own = f"{TEXT_MODULE}.{name.removeprefix(prefix)}"
        elif found := NOT_TEXT.search(name):
            end = name.find(".", found.end())
            left_out.setdefault(name[: end if end > 0 else len(name)], []).append(name)
            continue
        if names.setdefault(own, name) != name:
            raise ToolkitError(
                f"The '{config.model_type}' checkpoint has {own} of the text model twice, as "
                f"{names[own]} and as {name}",
                "Which of them the model computes with is not known",
            )
    return TextPart(names, left_out, _text_module(config))


def _text_module(config: PretrainedConfig) -> str:
    """Return the path of the module that has the decoder layers."""
    layer = FAMILIES[config.text_config.model_type].layer
    found: list[str] = [
        path
        for path, module in _whole_model(config).named_modules()
        if isinstance(layers := getattr(module, "layers", None), nn.ModuleList)
        and len(layers)
        and type(layers[0]).__name__ == layer
    ]
    if len(found) != 1:
        raise ToolkitError(
            f"The class of the family '{config.model_type}' has {len(found) or 'no'} modules with "
            f"layers of the class {layer}",
            "It must have one, the text model",
        )
    return found[0]


def _whole_model(config: PretrainedConfig) -> nn.Module:
    """Build the whole model without storage."""
    name = next(iter(config.architectures or ()), "")
    model_class = getattr(transformers, name, None)
    try:
        with torch.device("meta"):
            model: nn.Module = (
                AutoModelForImageTextToText.from_config(config)
                if model_class is None
                else model_class(config)
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolkitError(
            f"The model of the family '{config.model_type}' cannot be built, which would say what "
            f"an adapter's tensors are called: {str(error).strip().partition(chr(10))[0]}"
        ) from error
    return model
