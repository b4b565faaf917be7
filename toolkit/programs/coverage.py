"""Nothing of a model may vanish on its way into the programs.

`block.py` replaces the parts of the `transformers` layer by ours. What a part has that ours do not
compute, a parameter or something its configuration turns on, is an error that names it, here and
not as a wrong gradient on a device.
"""

import copy
from collections.abc import Iterable

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

from toolkit.errors import ToolkitError
from toolkit.programs.families import ATTENTION_PROJECTIONS, MLP_PROJECTIONS, head_dimension
from toolkit.programs.modules import Norm, Projection

_REMEDY = "toolkit cannot train this architecture"
_NORMS = ("input_layernorm", "post_attention_layernorm")


def check_parts(layer: nn.Module, config: PretrainedConfig) -> None:
    """Check that a decoder layer's attention, MLP and norms compute what ours do.

    Raises:
        ToolkitError: Naming the first thing that they have and ours have not.
    """
    family = config.model_type
    for path, wanted in (("self_attn", ATTENTION_PROJECTIONS), ("mlp", MLP_PROJECTIONS)):
        _check_children(getattr(layer, path, None), path, wanted, family)
    for name in _NORMS:
        norm = getattr(layer, name, None)
        parameters = [] if norm is None else [own for own, _ in norm.named_parameters()]
        if parameters != ["weight"] or not hasattr(norm, "variance_epsilon"):
            raise ToolkitError(
                f"layers.0.{name} of the family '{family}' is not an RMSNorm", _REMEDY
            )
    scaling = getattr(layer.self_attn, "scaling", None)
    if scaling is not None and scaling != head_dimension(config) ** -0.5:
        raise ToolkitError(
            f"The attention of this '{family}' is scaled by {scaling:g}, not by the square root "
            "of its heads' width",
            _REMEDY,
        )


def check_covered(names: Iterable[str], layer: nn.Module, family: str) -> None:
    """Check that a layer whose parts were replaced has an input for each of its parameters.

    Args:
        names: Parameters and buffers of the original layer.
        layer: The layer with our modules in it.
        family: `config.model_type`, for the message.

    Raises:
        ToolkitError: Naming the first parameter without one.
    """
    covered = set()
    for path, module in layer.named_modules():
        if isinstance(module, Projection | Norm):
            covered.add(f"{path}.weight")
            if hasattr(module, "bias"):
                covered.add(f"{path}.bias")
    for name in names:
        if name not in covered:
            raise _uncovered(f"layers.0.{name}", family)


def check_whole_model(config: PretrainedConfig, covered: Iterable[str]) -> None:
    """Check that a model has no parameter beside `covered`, names as in `transformers`.

    One layer stands for all: the others have the same parts.

    Raises:
        ToolkitError: Naming the first parameter that is not covered.
    """
    single = copy.deepcopy(config)
    single.num_hidden_layers = 1
    if getattr(config, "layer_types", None):
        single.layer_types = list(config.layer_types[:1])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(single)
    known = set(covered)
    for name, _ in model.named_parameters():
        if name not in known:
            raise _uncovered(name.removeprefix("model."), config.model_type)


def _check_children(
    module: nn.Module | None, path: str, projections: tuple[str, ...], family: str
) -> None:
    for name in projections:
        if type(getattr(module, name, None)) is not nn.Linear:
            raise ToolkitError(
                f"The family '{family}' has no layers.0.{path}.{name} that is a Linear", _REMEDY
            )
    for name, child in module.named_children():
        if name not in (*projections, "act_fn"):
            own = next((f".{own}" for own, _ in child.named_parameters()), "")
            raise _uncovered(f"layers.0.{path}.{name}{own}", family)
        if path == "mlp" and getattr(child, "bias", None) is not None:
            raise _uncovered(f"layers.0.{path}.{name}.bias", family)


def _uncovered(name: str, family: str) -> ToolkitError:
    return ToolkitError(f"{name} is not covered by the family '{family}'", _REMEDY)
