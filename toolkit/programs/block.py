"""One decoder block as two pure functions whose inputs include all weights and adapters."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PretrainedConfig

from toolkit.programs.coverage import check_covered, check_parts
from toolkit.programs.families import ATTENTION_PROJECTIONS, MLP_PROJECTIONS, family_of
from toolkit.programs.modules import Attention, Lora, Mlp, Norm, Projection
from toolkit.programs.rope import rope_parameters
from toolkit.quantization.layout import WeightLayout


@dataclass(frozen=True)
class Binding:
    """A named program input or output; names are explained in `toolkit.programs`."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def example(self) -> Tensor:
        """Return a tensor of this shape; its pages stay untouched while tracing."""
        return torch.empty(self.shape, dtype=self.dtype)


class Block:
    """A decoder layer of `transformers` with our operators in place of its parts."""

    def __init__(
        self, config: PretrainedConfig, layout: WeightLayout, lora: Lora, lowering: str
    ) -> None:
        self.config = config
        self.inv_freq, scaling = rope_parameters(config)
        layer = family_of(config).decoder_layer(config)
        check_parts(layer, config)
        original = [name for name, _ in (*layer.named_parameters(), *layer.named_buffers())]
        eps = layer.input_layernorm.variance_epsilon

        def projections(parent: nn.Module, names: tuple[str, ...]) -> dict[str, Projection]:
            return {
                name: Projection(
                    getattr(parent, name), layout, lora if name in lora.targets else None, lowering
                )
                for name in names
            }

        attention = projections(layer.self_attn, ATTENTION_PROJECTIONS)
        layer.self_attn = Attention(config, attention, scaling, lowering)
        layer.mlp = Mlp(projections(layer.mlp, MLP_PROJECTIONS), lowering)
        layer.input_layernorm = Norm(config.hidden_size, eps, lowering)
        layer.post_attention_layernorm = Norm(config.hidden_size, eps, lowering)
        check_covered(original, layer, config.model_type)
        self.layer = layer
        buffers = dict(layer.named_buffers())
        self.adapter_names = [name for name in buffers if ".lora_" in name]
        base_names = [name for name in buffers if ".lora_" not in name]
        self.names = base_names + self.adapter_names
        self.buffers = buffers

    def weight_bindings(self) -> list[Binding]:
        """Return the frozen tensors, then the adapters, in the order of the functions' inputs."""
        inv_freq = Binding("base:rope.inv_freq", tuple(self.inv_freq.shape), torch.float32)
        return [inv_freq] + [
            Binding(_binding_name(name), tuple(self.buffers[name].shape), self.buffers[name].dtype)
            for name in self.names
        ]

    def gradient_bindings(self) -> list[Binding]:
        """Return the adapters' gradients in the order in which `backward` returns them."""
        return [
            Binding(
                _binding_name(name).replace("adapter:", "gradient:", 1),
                tuple(self.buffers[name].shape),
                torch.float32,
            )
            for name in self.adapter_names
        ]

    def forward(
        self, hidden: Tensor, positions: Tensor, start: Tensor, inv_freq: Tensor, *tensors: Tensor
    ) -> Tensor:
        """Return the block's output, [1, T, D]."""
        return functional_call(
            self.layer,
            dict(zip(self.names, tensors, strict=True)),
            (hidden,),
            {"positions": positions, "start": start, "inv_freq": inv_freq},
        )

    def backward(
        self,
        hidden: Tensor,
        grad: Tensor,
        positions: Tensor,
        start: Tensor,
        inv_freq: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        """Recompute the forward and return the gradients of `hidden` and of every adapter."""
        frozen = tensors[: len(self.names) - len(self.adapter_names)]
        adapters = tensors[len(frozen) :]
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in (hidden, *adapters)]
            output = self.forward(leaves[0], positions, start, inv_freq, *frozen, *leaves[1:])
            return torch.autograd.grad(output, leaves, grad)


def _binding_name(name: str) -> str:
    kind = "adapter" if ".lora_" in name else "base"
    suffix = ".weight" if kind == "adapter" else ""
    return f"{kind}:layers.{{layer}}.{name}{suffix}"
