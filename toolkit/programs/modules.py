"""Modules that replace parts of a `transformers` decoder layer, in five lowerings.

Every module declares its tensors as buffers without storage; `block.py` binds real ones, which
are inputs of the exported program.

    mesp        recomputes inside the operators (arXiv 2602.13069, section 3)
    store-h     mesp, but q, k, v and o keep h = x Aᵀ for their backward (same paper, table 5); that
                of an MLP, one operator, never leaves a tile
    mebp        plain automatic differentiation that stores every intermediate (arXiv 2510.03425,
                section 3)
    ms-bp       mebp, but a norm that feeds linear layers keeps what it normalized, before its
                weight, and neither its input nor its output (MS-RMSNorm, arXiv 2406.16282): the
                weight is multiplied in once more for the adapters' gradients. Into int4 weights it
                cannot be folded without rounding them anew
    approx-bp   ms-bp, and of what an MLP's activation is given two bits an element are kept
                (Approx-BP, same paper): the gradients are approximate
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.choices import APPROXIMATE_LOWERINGS, RECOMPUTING_LOWERINGS
from toolkit.families import parts
from toolkit.families.rope import Rope
from toolkit.lora import LowRank
from toolkit.ops.approximate import regelu2, resilu2
from toolkit.ops.attention import attention, window_start
from toolkit.ops.cached_attention import attention_cached
from toolkit.ops.elementwise import halves, multiply, scale, scale_features
from toolkit.ops.linear import lora_linear, quantized_linear
from toolkit.ops.mlp import fused_swiglu_mlp, geglu_mlp, swiglu_mlp
from toolkit.ops.norm import rms_norm
from toolkit.ops.rope import rope, split_rope
from toolkit.ops.saved import (
    attention_saved,
    gelu_mul,
    lora_linear_saved,
    normalize,
    rms_norm_saved,
    silu_mul,
    swiglu,
)
from toolkit.quantization.layout import WeightLayout


def _declare(module: nn.Module, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    module.register_buffer(name, torch.empty(shape, dtype=dtype, device="meta"))


class Projection(nn.Module):
    """A frozen quantized linear layer with an optional LoRA adapter."""

    codes: Tensor
    scale: Tensor
    lora_A: Tensor
    lora_B: Tensor

    def __init__(
        self, part: parts.Linear, layout: WeightLayout, low_rank: LowRank | None, lowering: str
    ) -> None:
        super().__init__()
        n, k = part.n, part.k
        for name, (shape, dtype) in layout.tensors(n, k).items():
            _declare(self, name, shape, dtype)
        if part.bias:
            _declare(self, "bias", (n,), torch.float32)
        self.scaling = None if low_rank is None else low_rank.scaling
        self.lowering = lowering
        if low_rank is not None:
            _declare(self, "lora_A", (low_rank.rank, k), torch.float32)
            _declare(self, "lora_B", (n, low_rank.rank), torch.float32)

    def weight(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.codes, self.scale, getattr(self, "offset", None)

    def adapter(self) -> tuple[Tensor | None, Tensor | None]:
        return getattr(self, "lora_A", None), getattr(self, "lora_B", None)

    def forward(self, x: Tensor) -> Tensor:
        bias = getattr(self, "bias", None)
        if self.scaling is None:
            return quantized_linear(x, *self.weight(), bias)
        arguments = (x, *self.weight(), bias, self.lora_A, self.lora_B, self.scaling)
        if self.lowering == "mesp":
            return lora_linear(*arguments)
        return lora_linear_saved(*arguments)[0]


class Norm(nn.Module):
    """RMSNorm; what recomputes does so for the reciprocal standard deviation, the others keep it.

    One that is `feeding` linear layers keeps what is described for `ms-bp` there.
    """

    weight: Tensor

    def __init__(self, part: parts.Norm, lowering: str, feeding: bool) -> None:
        super().__init__()
        _declare(self, "weight", (part.width,), torch.float32)
        self.eps = part.eps
        self.lowering = lowering
        self.split = feeding and lowering in ("ms-bp", "approx-bp")

    def forward(self, x: Tensor) -> Tensor:
        if self.lowering in RECOMPUTING_LOWERINGS:
            return rms_norm(x, self.weight, self.eps)
        if self.split:
            return scale_features(normalize(x, self.eps)[0], self.weight)
        return rms_norm_saved(x, self.weight, self.eps)[0]


@dataclass(frozen=True)
class Cache:
    """Keys and values [C, K*d] of the tokens before, and, once they are computed, of those now."""

    keys: Tensor
    values: Tensor
    computed: list[Tensor] = field(default_factory=list)


class Attention(nn.Module):
    """Causal grouped-query attention and its four projections.

    Between projection and attention q and k pass a norm and turn, where the part has them.
    """

    q_proj: Projection
    k_proj: Projection
    v_proj: Projection
    o_proj: Projection
    q_norm: Norm
    k_norm: Norm

    def __init__(
        self,
        part: parts.Attention,
        children: dict[str, nn.Module],
        rotary: Rope | None,
        lowering: str,
    ) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        self.part = part
        self.rotary = rotary
        self.lowering = lowering

    def forward(
        self,
        hidden_states: Tensor,
        *,
        positions: Tensor,
        start: Tensor | None,
        inv_freq: Tensor | None,
        cache: Cache | None = None,
        **_unused: object,
    ) -> tuple[Tensor, None]:
        q, k, v = self._qkv(hidden_states, positions, inv_freq, at_once=cache is not None)
        window = self.part.window
        if cache is not None:
            cache.computed.extend((k, v))
            rows = (q, k, v, cache.keys, cache.values, positions, window or 0)
            out = attention_cached(*rows, self.part.heads, self.part.kv_heads, self.part.scale)
            return self.o_proj(out), None
        if start is None:
            raise ValueError("without a cache attention has to be told where documents start")
        if window is not None and window < start.shape[0]:
            start = window_start(start, window)
        inputs = (q, k, v, start, self.part.heads, self.part.kv_heads, self.part.scale)
        if self.lowering in RECOMPUTING_LOWERINGS:
            return self.o_proj(attention(*inputs)), None
        return self.o_proj(attention_saved(*inputs)[0]), None

    def _qkv(
        self, hidden_states: Tensor, positions: Tensor, inv_freq: Tensor | None, at_once: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        # The backward goes in reverse: the largest gradient, that of q, is then used up first.
        # In training each is used up before the next is computed; for a few rows the runtime
        # computes products that follow each other together.
        products: Iterable[tuple[str, Tensor]] = (
            (name, getattr(self, f"{name}_proj")(hidden_states)) for name in "vkq"
        )
        if at_once:
            products = list(products)
        v, k, q = (self._turned(name, x, positions, inv_freq) for name, x in products)
        return q, k, v

    def _turned(self, name: str, x: Tensor, positions: Tensor, inv_freq: Tensor | None) -> Tensor:
        if name == "v":
            return x
        if self.part.normed:
            x = getattr(self, f"{name}_norm")(x)
        if inv_freq is None or self.rotary is None:
            return x
        return rope(x, positions, inv_freq, self.rotary.scaling, False)


class FusedAttention(Attention):
    """The same with one projection of q, k and v, which turn while they are taken apart."""

    qkv_proj: Projection

    def _qkv(
        self, hidden_states: Tensor, positions: Tensor, inv_freq: Tensor | None, at_once: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        if inv_freq is None or self.rotary is None:
            raise ValueError("a fused attention turns q and k")
        settings = (self.rotary.scaling, self.rotary.original, self.part.heads, self.part.kv_heads)
        return split_rope(self.qkv_proj(hidden_states), positions, inv_freq, *settings)


class Mlp(nn.Module):
    """Gated MLP: one operator in `mesp` and `store-h`, its parts in the others.

    The operator has one scaling for its adapters, the one that most of them have. What another's is
    of it, one of `ratios`, its B is multiplied by.
    """

    gate_proj: Projection
    up_proj: Projection
    down_proj: Projection
    layers: tuple[str, ...] = ("gate", "up", "down")

    def __init__(
        self, children: dict[str, nn.Module], lowering: str, activation: str = "silu"
    ) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        self.lowering = lowering
        self.gelu = activation == "gelu"
        projections = {name: getattr(self, f"{name}_proj") for name in self.layers}
        scalings = [p.scaling for p in projections.values() if p.scaling is not None] or [0.0]
        self.scaling = max(scalings, key=scalings.count)
        self.ratios: dict[str, float] = {}
        for name, projection in projections.items():
            scaling = projection.scaling
            if lowering in RECOMPUTING_LOWERINGS and scaling not in (None, self.scaling):
                self.ratios[f"{name}_ratio"] = scaling / self.scaling
                _declare(self, f"{name}_ratio", (), torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        if self.lowering not in RECOMPUTING_LOWERINGS:
            y: Tensor = self.down_proj(self._activation(x))
            return y
        weights = [t for name in self.layers for t in getattr(self, f"{name}_proj").weight()]
        adapters = [t for name in self.layers for t in self._adapter(name)]
        return self._operator(x, *weights, *adapters, self.scaling)

    def _activation(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if self.lowering in APPROXIMATE_LOWERINGS:
            return self._approximate(gate, up)
        return (gelu_mul if self.gelu else silu_mul)(gate, up)

    def _approximate(self, gate: Tensor, up: Tensor) -> Tensor:
        return multiply((regelu2 if self.gelu else resilu2)(gate)[0], up)

    def _operator(self, x: Tensor, *arguments: Any) -> Tensor:
        return (geglu_mlp if self.gelu else swiglu_mlp)(x, *arguments)

    def _adapter(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        a, b = getattr(self, f"{name}_proj").adapter()
        ratio = getattr(self, f"{name}_ratio", None)
        return a, b if ratio is None else scale(b, ratio)


class FusedMlp(Mlp):
    """The same with one projection of gate and up."""

    gate_up_proj: Projection
    layers = ("gate_up", "down")

    def _activation(self, x: Tensor) -> Tensor:
        both = self.gate_up_proj(x)
        if self.lowering in APPROXIMATE_LOWERINGS:
            return self._approximate(*halves(both))
        return swiglu(both)

    def _operator(self, x: Tensor, *arguments: Any) -> Tensor:
        return fused_swiglu_mlp(x, *arguments)
