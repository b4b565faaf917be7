"""PEFT adapters made by `peft` itself, with random A and B."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from toolkit.lora import PROJECTIONS


def save_adapter(
    folder: Path, model: PreTrainedModel, base: str = "", size: float = 0.3, **options
) -> PeftModel:
    """Save an adapter of a model as `peft` does and return the model with it.

    Args:
        folder: To write.
        model: Left as it is.
        base: What adapter_config.json names as the base model.
        size: Of the elements of A and B.
        options: Of LoraConfig; all projections of the layers without.
    """
    own = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    targets = [n for n in (*PROJECTIONS, "qkv_proj", "gate_up_proj") if n in own]
    config = LoraConfig(
        **{"r": 4, "lora_alpha": 12, "target_modules": targets, "task_type": "CAUSAL_LM"} | options
    )
    with_adapter = get_peft_model(copy.deepcopy(model), config)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in with_adapter.named_parameters():
            if "lora_" in name:
                parameter.copy_(size * torch.randn_like(parameter))
    with_adapter.save_pretrained(folder)
    # Named afterwards: `peft` would look for it, on the hub too.
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
    return with_adapter.eval()


def logits_of(model: torch.nn.Module, tokens: list[int]) -> torch.Tensor:
    """Return a model's logits of one sequence, float32 [T, V]."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0]


@contextmanager
def eight_bit_inputs(model: torch.nn.Module, factor: float = 1.0) -> Iterator[None]:
    """Have the base's linear layers round their inputs, times a factor, as llama.cpp's do.

    Groups of 32 become whole numbers of 8 bits with one scale in float16 (its Q8_0 and Q8_1).
    """

    def rounded(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        groups = factor * inputs[0].reshape(-1, 32)
        scale = groups.abs().amax(1, keepdim=True) / 127
        numbers = (groups / scale.clamp(min=1e-30)).round()
        return ((numbers * scale.half().float()).reshape(inputs[0].shape),)

    linears = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lora_" not in name
    ]
    hooks = [linear.register_forward_pre_hook(rounded) for linear in linears]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
