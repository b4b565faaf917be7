"""Arguments for every operator, for the tests of references, of programs and of kernels alike."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.ops import OPERATORS
from toolkit.quantization.schemes import quantize


@dataclass(frozen=True)
class Sizes:
    """Sizes and variants of one case; letters as in `toolkit.ops`."""

    t: int = 5
    d: int = 32
    f: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8
    groups: int = 1  # that a norm has in a row
    rank: int = 3
    vocab: int = 37
    scheme: str = "int4"
    bias: bool = True
    adapters: str = "gate up down"
    packed: bool = True
    window: int = 0  # of attention; 0: none
    seed: int = 0


class Draw:
    """Seeded random arguments."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.generator = torch.Generator().manual_seed(sizes.seed)

    def real(self, *shape: int, std: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=self.generator) * std

    def weight(self, n: int, k: int) -> tuple[Tensor, Tensor, Tensor | None]:
        quantized = quantize(self.real(n, k, std=k**-0.5), self.sizes.scheme)
        return quantized.codes, quantized.scale, quantized.offset

    def integers(self, high: int) -> Tensor:
        return torch.randint(high, (1, self.sizes.t), generator=self.generator, dtype=torch.int32)

    def document_starts(self) -> Tensor:
        """First token of every token's document, int32 [T]."""
        t = torch.arange(self.sizes.t, dtype=torch.int32)
        if not self.sizes.packed:
            return torch.zeros_like(t)
        # Three documents, or fewer if there are not enough tokens.
        start = torch.where(t >= self.sizes.t // 2, self.sizes.t // 2, (t >= 1).int())
        return torch.maximum(start, t + 1 - self.sizes.window) if self.sizes.window else start


def _linear(draw: Draw) -> dict:
    s = draw.sizes
    return {
        "x": draw.real(1, s.t, s.d),
        **dict(zip(("codes", "scale", "offset"), draw.weight(s.f, s.d), strict=True)),
        "bias": draw.real(s.f) if s.bias else None,
        "a": draw.real(s.rank, s.d, std=s.d**-0.5),
        "b": draw.real(s.f, s.rank),
        "scaling": 1.75,
        "grad": draw.real(1, s.t, s.f),
        "h": draw.real(1, s.t, s.rank),
    }


def _norm(draw: Draw) -> dict:
    s = draw.sizes
    return {
        "x": draw.real(1, s.t, s.d),
        "weight": 1 + draw.real(s.d // s.groups, std=0.3),
        "eps": 1e-2,
        "grad": draw.real(1, s.t, s.d),
    }


def _rope(draw: Draw) -> dict:
    s = draw.sizes
    starts = draw.document_starts()
    return {
        "x": draw.real(1, s.t, s.heads * s.head_dim),
        "positions": torch.arange(s.t, dtype=torch.int32) - starts + 3,
        "inv_freq": 1e4 ** -torch.linspace(0, 1, s.head_dim // 2 + 1)[:-1],
        "attention_scaling": 1.25,
        "inverse": False,
    }


def _split_rope(draw: Draw) -> dict:
    """Heads of which a part turns, long positions: the second row of frequencies counts."""
    s = draw.sizes
    values = _rope(draw)
    frequencies = values["inv_freq"][: -(-s.head_dim // 4)]
    widths = {"dq": s.heads, "dk": s.kv_heads, "dv": s.kv_heads}
    return {
        **values,
        "qkv": draw.real(1, s.t, (s.heads + 2 * s.kv_heads) * s.head_dim),
        "inv_freq": torch.stack([frequencies, frequencies / 3]) if s.bias else frequencies,
        "original": 4 if s.packed else 100,
        "heads": s.heads,
        "kv_heads": s.kv_heads,
        **{name: draw.real(1, s.t, count * s.head_dim) for name, count in widths.items()},
    }


def _window(draw: Draw) -> dict:
    return {"start": draw.document_starts(), "window": 3}


def _fused_mlp(draw: Draw) -> dict:
    s = draw.sizes
    values: dict = {"x": draw.real(1, s.t, s.d), "grad": draw.real(1, s.t, s.d), "scaling": 1.75}
    for layer, n, k in (("gate_up", 2 * s.f, s.d), ("down", s.d, s.f)):
        parts = zip(("codes", "scale", "offset"), draw.weight(n, k), strict=True)
        values |= {f"{layer}_{name}": tensor for name, tensor in parts}
        given = layer.split("_")[-1] in s.adapters.split()
        values[f"{layer}_a"] = draw.real(s.rank, k, std=k**-0.5) if given else None
        values[f"{layer}_b"] = draw.real(n, s.rank) if given else None
    return values


def _attention(draw: Draw) -> dict:
    s = draw.sizes
    return {
        "q": draw.real(1, s.t, s.heads * s.head_dim),
        "k": draw.real(1, s.t, s.kv_heads * s.head_dim),
        "v": draw.real(1, s.t, s.kv_heads * s.head_dim),
        "start": draw.document_starts(),
        "heads": s.heads,
        "kv_heads": s.kv_heads,
        "scale": s.head_dim**-0.5,
        "grad": draw.real(1, s.t, s.heads * s.head_dim),
    }


def _attention_cached(draw: Draw) -> dict:
    """Few rows follow many tokens, more rows some."""
    s = draw.sizes
    past = 600 if s.t < 9 else 13
    rows = (past + s.t + 3, s.kv_heads * s.head_dim)
    return {
        **_attention(draw),
        "keys": draw.real(*rows),
        "values": draw.real(*rows),
        "positions": torch.arange(past, past + s.t, dtype=torch.int32),
        "window": s.window,
    }


def _mlp(draw: Draw) -> dict:
    s = draw.sizes
    values: dict = {"x": draw.real(1, s.t, s.d), "grad": draw.real(1, s.t, s.d), "scaling": 1.75}
    for layer, n, k in (("gate", s.f, s.d), ("up", s.f, s.d), ("down", s.d, s.f)):
        parts = zip(("codes", "scale", "offset"), draw.weight(n, k), strict=True)
        values |= {f"{layer}_{name}": tensor for name, tensor in parts}
        given = layer in s.adapters.split()
        values[f"{layer}_a"] = draw.real(s.rank, k, std=k**-0.5) if given else None
        values[f"{layer}_b"] = draw.real(n, s.rank) if given else None
    return values


def _silu_mul(draw: Draw) -> dict:
    s = draw.sizes
    values = {name: draw.real(1, s.t, s.f) for name in ("gate", "up", "grad")}
    return {**values, "gate_up": draw.real(1, s.t, 2 * s.f)}


def _coded(draw: Draw) -> dict:
    """Gates on both sides of every threshold, of a width that ends within a byte."""
    s = draw.sizes
    return {name: draw.real(1, s.t, s.f - 3, std=4.0) for name in ("x", "grad")}


def _halves(draw: Draw) -> dict:
    s = draw.sizes
    names = ("first", "second", "dfirst", "dsecond", "grad")
    return {"x": draw.real(1, s.t, 2 * s.d)} | {name: draw.real(1, s.t, s.d) for name in names}


def _vocabulary(draw: Draw) -> dict:
    s = draw.sizes
    labels = draw.integers(s.vocab)
    labels[0, 1::3] = -100
    return {
        "x": draw.real(1, s.t, s.d),
        "tokens": draw.integers(s.vocab),
        "labels": labels,
        **dict(zip(("codes", "scale", "offset"), draw.weight(s.vocab, s.d), strict=True)),
        "vocab": s.vocab,
    }


def _sum(draw: Draw) -> dict:
    s = draw.sizes
    values = {name: draw.real(1, s.t, s.d) for name in ("a", "b", "x")}
    return {**values, "factor": torch.tensor(0.3), "weight": draw.real(s.d)}


_FAMILIES: dict[str, Callable[[Draw], dict]] = {
    "quantized_linear": _linear,
    "lora_linear": _linear,
    "lora_linear_saved": _linear,
    "rms_norm": _norm,
    "rms_norm_saved": _norm,
    "rope": _rope,
    "split_rope": _split_rope,
    "window_start": _window,
    "attention": _attention,
    "attention_saved": _attention,
    "attention_cached": _attention_cached,
    "swiglu_mlp": _mlp,
    "fused_swiglu_mlp": _fused_mlp,
    "swiglu": _silu_mul,
    "silu_mul": _silu_mul,
    "gelu_mul": _silu_mul,
    "geglu_mlp": _mlp,
    "quantized_embedding": _vocabulary,
    "linear_cross_entropy": _vocabulary,
    "linear_cross_entropy_loss": _vocabulary,
    "add": _sum,
    "scale": _sum,
    "multiply": _sum,
    "scale_features": _sum,
    "halves": _halves,
    "joined": _halves,
    "normalize": _norm,
    "resilu2": _coded,
    "regelu2": _coded,
}


def forward_name(name: str) -> str:
    """Return the operator whose backward `name` is, or `name` itself."""
    return name.removesuffix("_backward")


def arguments(name: str, sizes: Sizes | None = None) -> list:
    """Return random arguments of an operator, in schema order; tensors saved by a forward are real.

    Args:
        name: Operator without namespace.
        sizes: Sizes, variants and seed.
    """
    forward = OPERATORS[forward_name(name)]
    values = _FAMILIES[forward.name](Draw(sizes or Sizes()))
    if OPERATORS[name] is not forward:
        outputs = forward(*(values[argument] for argument in forward.arguments))
        if len(forward.outputs) > 1:
            values |= dict(zip(forward.outputs, outputs, strict=True))
    return [values[argument] for argument in OPERATORS[name].arguments]


def in_double(args: list) -> list:
    """Return the arguments with float32 tensors as float64; quantized weights stay as they are."""
    return [a.double() if isinstance(a, Tensor) and a.dtype == torch.float32 else a for a in args]
