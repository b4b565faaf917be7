"""One decoder block as two pure functions whose inputs include all weights and adapters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PretrainedConfig

from toolkit.families import BlockKind, family_of, parts
from toolkit.families.rope import Rope
from toolkit.lora import LoraSettings
from toolkit.programs.modules import (
    Attention,
    Cache,
    FusedAttention,
    FusedMlp,
    Mlp,
    Norm,
    Projection,
)
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


@dataclass(frozen=True)
class Function:
    """A pure function with the names, shapes and dtypes of its inputs and outputs."""

    name: str
    call: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: list[Binding]
    outputs: list[Binding]


def scalar_binding(value: float) -> Binding:
    """Return the input for a number of the model: float32 [], the number in its name."""
    return Binding(f"scalar:{np.float32(value)!s}", (), torch.float32)


class Block:
    """A decoder layer of `transformers` with our operators in place of its parts."""

    def __init__(
        self,
        config: PretrainedConfig,
        kind: BlockKind,
        layout: WeightLayout,
        lora: LoraSettings | None,
        lowering: str,
    ) -> None:
        family = family_of(config)
        self.kind = kind
        self.layer = family.decoder_layer(config, kind.layers[0])
        ropes = {part.rope for part in kind.parts.values() if isinstance(part, parts.Attention)}
        name = next(iter(ropes), None)  # of a layer's only attention
        rope = family.ropes(config)[name] if name else None
        self.inv_freq = (
            [Binding(f"base:{name}.inv_freq", tuple(rope.inv_freq.shape), torch.float32)]
            if rope
            else []
        )
        self._swap(layout, lora, rope, lowering)
        self.scalars = {name: float(getattr(self.layer, name)) for name in family.multipliers}
        for name in self.scalars:
            delattr(self.layer, name)
            self.layer.register_buffer(name, torch.empty((), device="meta"))
        for path, module in self.layer.named_modules():
            if isinstance(module, Mlp):
                self.scalars |= {f"{path}.{name}": r for name, r in module.ratios.items()}
        buffers = dict(self.layer.named_buffers())
        self.adapter_names = [name for name in buffers if ".lora_" in name]
        base_names = [name for name in buffers if ".lora_" not in name]
        self.names = base_names + self.adapter_names
        self.buffers = buffers

    def functions(
        self, hidden: Binding, grad: Binding, where: list[Binding], *, backward: bool
    ) -> list[Function]:
        """Return the block's forward and, if asked for, its backward, named after its kind.

        Args:
            hidden: Float32 [1, T, D], input and output of the block.
            grad: The same of the loss's gradient.
            where: Positions and starts, int32 [T] each.
        """
        weights = self._weight_bindings()
        name = self.kind.name
        kept = [Binding("kept", hidden.shape, hidden.dtype)] if self.kind.late_norm else []
        inputs = [*where, *weights]
        outputs = [grad, *self._gradient_bindings()]
        functions = [
            Function(f"{name}_forward", self.forward, [hidden, *inputs], [hidden, *kept]),
            Function(f"{name}_backward", self.backward, [hidden, grad, *kept, *inputs], outputs),
        ]
        return functions if backward else functions[:1]

    def step_function(self, hidden: Binding, positions: Binding, context: int) -> Function:
        """Return the forward of tokens that follow those of a cache of `context` rows.

        Args:
            hidden: Float32 [1, T, D], input and output.
            positions: Int32 [T].
        """
        [part] = [p for p in self.kind.parts.values() if isinstance(p, parts.Attention)]
        width = part.kv_heads * self._head_size(part)
        caches = [Binding(name, (context, width), torch.float32) for name in ("keys", "values")]
        rows = [Binding(name, (*hidden.shape[:-1], width), torch.float32) for name in ("k", "v")]
        inputs = [hidden, *caches, positions, *self._weight_bindings()]
        return Function(f"{self.kind.name}_step", self.step, inputs, [hidden, *rows])

    def _head_size(self, part: parts.Attention) -> int:
        name = "qkv_proj" if part.fused else "q_proj"
        [linear] = [p for path, p in self.kind.linears.items() if path.endswith(f".{name}")]
        return linear.n // (part.heads + 2 * part.kv_heads if part.fused else part.heads)

    def step(
        self, hidden: Tensor, keys: Tensor, values: Tensor, positions: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the output, [1, T, D], and the tokens' keys and values, [1, T, K*d] each."""
        cache = Cache(keys, values)
        weights, inv_freq = self._named(inputs)
        where = {"positions": positions, "start": None, "inv_freq": inv_freq, "cache": cache}
        output: Tensor = functional_call(self.layer, weights, (hidden,), where)
        return (output, *cache.computed)

    def forward(self, hidden: Tensor, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the block's output, [1, T, D], and beside it what its backward is to be given."""
        output, kept = self._run(hidden, inputs)
        return output if kept is None else (output, kept)

    def backward(self, hidden: Tensor, grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Recompute the forward and return the gradients of `hidden` and of every adapter.

        An MLP whose output is `kept` is not run again for the norm behind it.
        """
        kept, inputs = (inputs[0], inputs[1:]) if self.kind.late_norm else (None, inputs)
        frozen = inputs[: len(inputs) - len(self.adapter_names)]
        adapters = inputs[len(frozen) :]
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in (hidden, *adapters)]
            known = None if kept is None else kept.detach().requires_grad_()
            output, computed = self._run(leaves[0], (*frozen, *leaves[1:]), known)
            if known is None or computed is None:
                return torch.autograd.grad(output, leaves, grad)
            (of_known,) = torch.autograd.grad(output, known, grad, retain_graph=True)
            return torch.autograd.grad((output, computed), leaves, (grad, of_known))

    def _run(
        self, hidden: Tensor, inputs: tuple[Tensor, ...], known: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the layer's output and what goes into its late norm, for which `known` stands."""
        positions, start, *tensors = inputs
        weights, inv_freq = self._named(tensors)
        where = {"positions": positions, "start": start, "inv_freq": inv_freq}
        computed: list[Tensor] = []

        def exchange(_norm: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
            computed.append(given[0])
            return given if known is None else (known,)

        hooks = (
            [self.layer.get_submodule(self.kind.late_norm).register_forward_pre_hook(exchange)]
            if self.kind.late_norm
            else []
        )
        output: Tensor = functional_call(self.layer, weights, (hidden,), where)
        for hook in hooks:
            hook.remove()
        return output, computed[0] if computed else None

    def _named(self, tensors: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return weights by their names in the layer, and the frequencies where it has some."""
        count = len(self.inv_freq)
        inv_freq = tensors[0] if count else None
        return dict(zip(self.names, tensors[count:], strict=True)), inv_freq

    def _weight_bindings(self) -> list[Binding]:
        """Return the frozen tensors, then the adapters, in the order of the functions' inputs."""
        bindings = list(self.inv_freq)
        for name in self.names:
            tensor = self.buffers[name]
            bindings.append(
                scalar_binding(self.scalars[name])
                if name in self.scalars
                else Binding(_binding_name(name), tuple(tensor.shape), tensor.dtype)
            )
        return bindings

    def _gradient_bindings(self) -> list[Binding]:
        """Return the adapters' gradients in the order in which `backward` returns them."""
        return [
            Binding(
                _binding_name(name).replace("adapter:", "gradient:", 1),
                tuple(self.buffers[name].shape),
                torch.float32,
            )
            for name in self.adapter_names
        ]

    def _swap(
        self, layout: WeightLayout, lora: LoraSettings | None, rope: Rope | None, lowering: str
    ) -> None:
        """Replace every part of the layer, inner ones before those that hold them."""
        for path, part in sorted(self.kind.parts.items(), key=lambda item: -item[0].count(".")):
            children = dict(self.layer.get_submodule(path).named_children())
            children = {
                name: c for name, c in children.items() if f"{path}.{name}" in self.kind.parts
            }
            match part:
                case parts.Linear():
                    low_rank = lora.low_rank(path.rsplit(".", 1)[-1]) if lora else None
                    module: nn.Module = Projection(part, layout, low_rank, lowering)
                case parts.Norm():
                    module = Norm(part, lowering, path in self.kind.feeding)
                case parts.Attention():
                    kind = FusedAttention if part.fused else Attention
                    module = kind(part, children, rope, lowering)
                case parts.Mlp():
                    mlp = FusedMlp if part.fused else Mlp
                    module = mlp(children, lowering, part.activation)
            self.layer.set_submodule(path, module)


def _binding_name(name: str) -> str:
    kind = "adapter" if ".lora_" in name else "base"
    suffix = ".weight" if kind == "adapter" else ""
    return f"{kind}:layers.{{layer}}.{name}{suffix}"
