"""Modules that replace parts of a `transformers` decoder layer, in two lowerings.

Every module declares its tensors as buffers without storage; `block.py` binds real ones, which
are inputs of the exported program. `mesp` recomputes inside the operators (arXiv 2602.13069,
section 3); `mebp` is plain automatic differentiation that stores every intermediate
(arXiv 2510.03425, section 3).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

import toolkit.ops  # noqa: F401  registers the operators
from toolkit.programs.families import head_dimension
from toolkit.quantization.layout import WeightLayout

_ops = torch.ops.toolkit


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters: `targets` are projection names, `scaling` is alpha / rank."""

    rank: int
    alpha: float
    targets: tuple[str, ...]

    @property
    def scaling(self) -> float:
        return self.alpha / self.rank


def _declare(module: nn.Module, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    module.register_buffer(name, torch.empty(shape, dtype=dtype, device="meta"))


class Projection(nn.Module):
    """A frozen quantized linear layer with an optional LoRA adapter."""

    def __init__(
        self, source: nn.Linear, layout: WeightLayout, lora: Lora | None, lowering: str
    ) -> None:
        super().__init__()
        n, k = source.out_features, source.in_features
        for name, (shape, dtype) in layout.tensors(n, k).items():
            _declare(self, name, shape, dtype)
        if source.bias is not None:
            _declare(self, "bias", (n,), torch.float32)
        self.scaling = None
        self.lowering = lowering
        if lora is not None:
            _declare(self, "lora_A", (lora.rank, k), torch.float32)
            _declare(self, "lora_B", (n, lora.rank), torch.float32)
            self.scaling = lora.scaling

    def weight(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.codes, self.scale, getattr(self, "offset", None)

    def adapter(self) -> tuple[Tensor | None, Tensor | None]:
        return getattr(self, "lora_A", None), getattr(self, "lora_B", None)

    def forward(self, x: Tensor) -> Tensor:
        bias = getattr(self, "bias", None)
        if self.scaling is None:
            return _ops.quantized_linear(x, *self.weight(), bias)
        arguments = (x, *self.weight(), bias, *self.adapter(), self.scaling)
        if self.lowering == "mebp":
            return _ops.lora_linear_saved(*arguments)[0]
        return _ops.lora_linear(*arguments)


class Norm(nn.Module):
    """RMSNorm; `mebp` keeps the reciprocal standard deviation, `mesp` recomputes it."""

    def __init__(self, hidden_size: int, eps: float, lowering: str) -> None:
        super().__init__()
        _declare(self, "weight", (hidden_size,), torch.float32)
        self.eps = eps
        self.lowering = lowering

    def forward(self, x: Tensor) -> Tensor:
        if self.lowering == "mebp":
            return _ops.rms_norm_saved(x, self.weight, self.eps)[0]
        return _ops.rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions and its four projections."""

    def __init__(
        self,
        config: PretrainedConfig,
        projections: dict[str, Projection],
        attention_scaling: float,
        lowering: str,
    ) -> None:
        super().__init__()
        for name, projection in projections.items():
            self.add_module(name, projection)
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.scale = head_dimension(config) ** -0.5
        self.attention_scaling = attention_scaling
        self.lowering = lowering

    def forward(
        self,
        hidden_states: Tensor,
        *,
        positions: Tensor,
        start: Tensor,
        inv_freq: Tensor,
        **_unused: object,
    ) -> tuple[Tensor, None]:
        # The backward goes in reverse: the largest gradient, that of q, is then used up first.
        v = self.v_proj(hidden_states)
        k = self.k_proj(hidden_states)
        k = _ops.rope(k, positions, inv_freq, self.attention_scaling, False)
        q = self.q_proj(hidden_states)
        q = _ops.rope(q, positions, inv_freq, self.attention_scaling, False)
        inputs = (q, k, v, start, self.heads, self.kv_heads, self.scale)
        out = (
            _ops.attention_saved(*inputs)[0] if self.lowering == "mebp" else _ops.attention(*inputs)
        )
        return self.o_proj(out), None


class Mlp(nn.Module):
    """SwiGLU MLP: one operator in `mesp`, its parts in `mebp`."""

    def __init__(self, projections: dict[str, Projection], lowering: str) -> None:
        super().__init__()
        for name, projection in projections.items():
            self.add_module(name, projection)
        self.lowering = lowering

    def forward(self, x: Tensor) -> Tensor:
        gate, up, down = self.gate_proj, self.up_proj, self.down_proj
        if self.lowering == "mebp":
            return down(_ops.silu_mul(gate(x), up(x)))
        weights = (*gate.weight(), *up.weight(), *down.weight())
        adapters = (*gate.adapter(), *up.adapter(), *down.adapter())
        scaling = next((p.scaling for p in (gate, up, down) if p.scaling is not None), 0.0)
        return _ops.swiglu_mlp(x, *weights, *adapters, scaling)
