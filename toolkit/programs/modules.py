"""Modules that replace parts of a `transformers` decoder layer, in two lowerings.

Every module declares its tensors as buffers without storage; `block.py` binds real ones, which
are inputs of the exported program. `mesp` recomputes inside the operators (arXiv 2602.13069,
section 3); `mebp` is plain automatic differentiation that stores every intermediate
(arXiv 2510.03425, section 3).
"""

import torch
from torch import Tensor, nn

from toolkit.families import parts
from toolkit.lora import LowRank
from toolkit.ops.attention import attention
from toolkit.ops.elementwise import scale
from toolkit.ops.linear import lora_linear, quantized_linear
from toolkit.ops.mlp import swiglu_mlp
from toolkit.ops.norm import rms_norm
from toolkit.ops.rope import rope
from toolkit.ops.saved import attention_saved, lora_linear_saved, rms_norm_saved, silu_mul
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
        if self.lowering == "mebp":
            return lora_linear_saved(*arguments)[0]
        return lora_linear(*arguments)


class Norm(nn.Module):
    """RMSNorm; `mebp` keeps the reciprocal standard deviation, `mesp` recomputes it."""

    weight: Tensor

    def __init__(self, part: parts.Norm, lowering: str) -> None:
        super().__init__()
        _declare(self, "weight", (part.width,), torch.float32)
        self.eps = part.eps
        self.lowering = lowering

    def forward(self, x: Tensor) -> Tensor:
        if self.lowering == "mebp":
            return rms_norm_saved(x, self.weight, self.eps)[0]
        return rms_norm(x, self.weight, self.eps)


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
        rope_scaling: float,
        lowering: str,
    ) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        self.part = part
        self.rope_scaling = rope_scaling
        self.lowering = lowering

    def forward(
        self,
        hidden_states: Tensor,
        *,
        positions: Tensor,
        start: Tensor,
        inv_freq: Tensor | None,
        **_unused: object,
    ) -> tuple[Tensor, None]:
        # The backward goes in reverse: the largest gradient, that of q, is then used up first.
        v = self.v_proj(hidden_states)
        k = self._turn(self._normed("k", hidden_states), positions, inv_freq)
        q = self._turn(self._normed("q", hidden_states), positions, inv_freq)
        inputs = (q, k, v, start, self.part.heads, self.part.kv_heads, self.part.scale)
        if self.lowering == "mebp":
            return self.o_proj(attention_saved(*inputs)[0]), None
        return self.o_proj(attention(*inputs)), None

    def _normed(self, name: str, hidden_states: Tensor) -> Tensor:
        x: Tensor = getattr(self, f"{name}_proj")(hidden_states)
        return getattr(self, f"{name}_norm")(x) if self.part.normed else x

    def _turn(self, x: Tensor, positions: Tensor, inv_freq: Tensor | None) -> Tensor:
        if inv_freq is None:
            return x
        return rope(x, positions, inv_freq, self.rope_scaling, False)


class Mlp(nn.Module):
    """SwiGLU MLP: one operator in `mesp`, its parts in `mebp`.

    The operator has one scaling for its adapters, the one that most of them have. What another's is
    of it, one of `ratios`, its B is multiplied by.
    """

    gate_proj: Projection
    up_proj: Projection
    down_proj: Projection

    def __init__(self, children: dict[str, nn.Module], lowering: str) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        self.lowering = lowering
        layers = {name: getattr(self, f"{name}_proj") for name in ("gate", "up", "down")}
        scalings = [p.scaling for p in layers.values() if p.scaling is not None] or [0.0]
        self.scaling = max(scalings, key=scalings.count)
        self.ratios: dict[str, float] = {}
        for name, projection in layers.items():
            scaling = projection.scaling
            if lowering == "mesp" and scaling not in (None, self.scaling):
                self.ratios[f"{name}_ratio"] = scaling / self.scaling
                _declare(self, f"{name}_ratio", (), torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        gate, up, down = self.gate_proj, self.up_proj, self.down_proj
        if self.lowering == "mebp":
            y: Tensor = down(silu_mul(gate(x), up(x)))
            return y
        weights = (*gate.weight(), *up.weight(), *down.weight())
        adapters = (*self._adapter("gate"), *self._adapter("up"), *self._adapter("down"))
        return swiglu_mlp(x, *weights, *adapters, self.scaling)

    def _adapter(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        a, b = getattr(self, f"{name}_proj").adapter()
        ratio = getattr(self, f"{name}_ratio", None)
        return a, b if ratio is None else scale(b, ratio)
