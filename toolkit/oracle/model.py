"""The oracle's model: `transformers` and `peft` with a bundle's dequantized weights and adapter."""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.choices import APPROXIMATE_LOWERINGS
from toolkit.errors import ToolkitError
from toolkit.families import family_of
from toolkit.oracle.approximate import approximate_activations

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def build_model(
    bundle: Bundle,
    adapter: Path | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    true_gradients: bool = False,
) -> "PeftModel":
    """Return the model with frozen dequantized weights and a trainable LoRA adapter.

    It has the gradients that the bundle is lowered for.

    Args:
        bundle: Where config.json, base.ptd and adapter_config.json come from.
        adapter: An adapter .ptd instead of the bundle's.
        dtype: Of weights, adapter and computation.
        true_gradients: Those of the model where the bundle's are approximate.

    Raises:
        ToolkitError: The adapter's tensors are not those of the model.
    """
    # Importing peft makes torchao say things that are for its developers.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import LoraConfig, get_peft_model

        config = LoraConfig.from_pretrained(str(bundle.path))
        config.inference_mode = False
        base = bundle.reference_model(dtype)
        if bundle.manifest["lowering"] in APPROXIMATE_LOWERINGS and not true_gradients:
            approximate_activations(base, base.config)
        model: PeftModel = get_peft_model(base, config, autocast_adapter_dtype=False)
    load_adapter(model, FlatTensorReader(adapter) if adapter else bundle.adapter)
    return model.to(dtype).train()


def build_exact_model(bundle: Bundle, adapter: Path | None = None) -> "PeftModel":
    """Return the model in float64 throughout: what float32 results are rounded from.

    `transformers` computes norms and softmax in float32 whatever the model's type, so the norms are
    replaced by PyTorch's and the attention by its fused one, which keep float64.
    """
    model = build_model(bundle, adapter, torch.float64)
    offset = family_of(bundle.config).norm_offset
    for module in list(model.modules()):
        for name, child in module.named_children():
            epsilon = getattr(child, "variance_epsilon", getattr(child, "eps", None))
            if type(child).__name__.endswith("RMSNorm") and epsilon is not None:
                weight = child.get_parameter("weight")
                norm = nn.RMSNorm(weight.numel(), epsilon)
                norm.weight = nn.Parameter(weight.data + offset, requires_grad=False)
                setattr(module, name, norm)
    cast("PreTrainedModel", model.get_base_model()).set_attn_implementation("sdpa")
    return model


def adapter_parameters(model: "PeftModel") -> dict[str, nn.Parameter]:
    """Return the trainable tensors under the names of adapter.ptd."""
    return {
        name.removeprefix(PEFT_PREFIX).replace(".default.", "."): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_adapter(model: "PeftModel", adapter: FlatTensorReader) -> None:
    """Copy an adapter's tensors into the model; both must have the same."""
    parameters = adapter_parameters(model)
    if set(parameters) != set(adapter.keys()):
        different = sorted(set(parameters) ^ set(adapter.keys()))
        raise ToolkitError(
            f"{adapter.path} does not fit the model: {different[0]} is only in one of them",
            "Use an adapter made for this bundle",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            value = adapter.tensor(name)
            if value.shape != parameter.shape:
                raise ToolkitError(
                    f"{name} in {adapter.path} has shape {list(value.shape)}, "
                    f"the model needs {list(parameter.shape)}"
                )
            parameter.copy_(value)
