"""References against code that is not ours: transformers' modules and torch's own functions."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.masking_utils import sliding_window_causal_mask_function
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
    eager_attention_forward,
)
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding
from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb as phi3_rotary

from tests.support.operators import Sizes, arguments, in_double
from toolkit.families import family_of
from toolkit.ops import OPERATORS
from toolkit.quantization.packing import dequantize
from toolkit.recipes import get_recipe

SIZES = Sizes(t=7, scheme="int4")
LENGTHS = [1, 2, 7, 33]


def named(name: str, sizes: Sizes) -> dict:
    return dict(zip(OPERATORS[name].arguments, in_double(arguments(name, sizes)), strict=True))


def compare(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def backward(output: Tensor, grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, inputs, grad)


def table(values: dict, prefix: str = "") -> Tensor:
    return dequantize(*(values[f"{prefix}{part}"] for part in ("codes", "scale", "offset")),
                      torch.float64)  # fmt: skip


@pytest.mark.parametrize("t", LENGTHS)
@pytest.mark.parametrize("scheme", ["int4", "int4-symmetric", "int8"])
def test_lora_linear_is_nn_linear_on_the_merged_weight(t, scheme):
    values = named("lora_linear_backward", replace(SIZES, t=t, scheme=scheme))
    bias = torch.randn(SIZES.f, dtype=torch.float64)
    x, a, b = (values[key].requires_grad_() for key in "xab")
    merged = table(values) + values["scaling"] * b @ a
    expected = F.linear(x, merged, bias)
    inputs = (values["codes"], values["scale"], values["offset"], bias, a, b, values["scaling"])
    compare(OPERATORS["lora_linear"](x, *inputs), expected)
    actual = OPERATORS["lora_linear_backward"](*values.values())
    for ours, theirs in zip(actual, backward(expected, values["grad"], x, a, b), strict=True):
        compare(ours, theirs)


@pytest.mark.parametrize("t", LENGTHS)
@pytest.mark.parametrize("groups", [1, 4])
def test_rms_norm_is_llamas(t, groups):
    values = named("rms_norm_backward", replace(SIZES, t=t, groups=groups))
    module = LlamaRMSNorm(SIZES.d // groups, eps=values["eps"]).double()
    module.weight.data = values["weight"]
    x = values["x"].float().double().requires_grad_()
    # LlamaRMSNorm computes in float32 whatever comes in.
    expected = module(x.unflatten(-1, (groups, -1))).flatten(-2)
    actual = OPERATORS["rms_norm"](x.detach(), values["weight"], values["eps"])
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)
    (dx,) = backward(expected, values["grad"], x)
    ours = OPERATORS["rms_norm_backward"](*values.values())
    torch.testing.assert_close(ours, dx, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("t", LENGTHS)
@pytest.mark.parametrize("rope_type", ["default", "llama3", "yarn"])
def test_rope_is_llamas(t, rope_type):
    parameters = {"rope_type": rope_type, "rope_theta": 1e4}
    if rope_type != "default":
        parameters |= {"factor": 4.0, "original_max_position_embeddings": 32}
    if rope_type == "llama3":
        parameters |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = LlamaConfig(hidden_size=32, num_attention_heads=4, rope_parameters=parameters)
    embedding = LlamaRotaryEmbedding(config)
    assert (embedding.attention_scaling != 1) == (rope_type == "yarn")
    values = named("rope", replace(SIZES, t=t))
    x, positions = values["x"].float().requires_grad_(), values["positions"]
    cos, sin = embedding(x, positions[None].long())
    heads = x.view(1, t, 4, 8).transpose(1, 2)
    expected = apply_rotary_pos_emb(heads, heads, cos, sin)[0].transpose(1, 2).reshape(x.shape)
    settings = (positions, embedding.inv_freq, float(embedding.attention_scaling))
    bound = 1e-6 * (1 + positions.max().item())  # the angle's rounding grows with the position
    actual = OPERATORS["rope"](x.detach(), *settings, False)
    torch.testing.assert_close(actual, expected, rtol=0, atol=bound)
    grad = torch.randn_like(x)
    (dx,) = backward(expected, grad, x)
    torch.testing.assert_close(OPERATORS["rope"](grad, *settings, True), dx, rtol=0, atol=bound)


@pytest.mark.parametrize("first", [0, 4087, 4088, 100_000])
@pytest.mark.parametrize("recipe", ["phi-4-mini", "phi-3-mini"])
def test_split_rope_is_phis(recipe, first):
    """At lengths on both sides of 4,096, from where on Phi-4-mini has other frequencies."""
    t, config = 9, get_recipe(recipe).model_config()
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    size, rope = config.head_dim, family_of(config).ropes(config)["rope"]
    qkv = torch.randn(1, t, (heads + 2 * kv_heads) * size, requires_grad=True)
    positions = torch.arange(first, first + t, dtype=torch.int32)
    cos, sin = Phi3RotaryEmbedding(config)(qkv, positions[None].long())
    q, k, v = qkv.split([heads * size, kv_heads * size, kv_heads * size], -1)
    q, k = (x.unflatten(-1, (-1, size)).transpose(1, 2) for x in (q, k))
    turned = phi3_rotary(q, k, cos, sin)
    expected = [*(x.transpose(1, 2).flatten(2) for x in turned), v]
    settings = (positions, rope.inv_freq, rope.scaling, rope.original, heads, kv_heads)
    bound = 1e-5  # both take the angle in float32, so its rounding does not count
    turned = OPERATORS["split_rope"](qkv.detach(), *settings)
    for ours, theirs in zip(turned, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)
    grads = [torch.randn_like(x) for x in expected]
    (dqkv,) = torch.autograd.grad(expected, qkv, grads)
    actual = OPERATORS["split_rope_backward"](*grads, *settings)
    torch.testing.assert_close(actual, dqkv, rtol=0, atol=bound)


def test_window_start_is_the_mask_of_transformers():
    start = OPERATORS["window_start"](torch.zeros(9, dtype=torch.int32), 4)
    row, column = torch.arange(9)[:, None], torch.arange(9)[None]
    seen = sliding_window_causal_mask_function(4)(0, 0, row, column)
    assert torch.equal((column >= start[:, None]) & (column <= row), seen)


class _Heads(nn.Module):
    """What eager_attention_forward asks of the attention module."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.eval()


@pytest.mark.parametrize("t", LENGTHS)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("name", ["attention", "attention_saved"])
@pytest.mark.parametrize("packed", [False, True])
def test_attention_is_eager_attention_with_a_mask(t, kv_heads, name, packed):
    sizes = replace(SIZES, t=t, kv_heads=kv_heads, packed=packed)
    values = named(name, sizes)
    q, k, v = (values[key].requires_grad_() for key in "qkv")
    document = values["start"]
    mask = torch.zeros(1, 1, t, t, dtype=torch.float64)
    for row in range(t):
        for column in range(t):
            if column > row or document[column] != document[row]:
                mask[0, 0, row, column] = -torch.inf

    def split(x: Tensor, heads: int) -> Tensor:
        return x.view(1, t, heads, sizes.head_dim).transpose(1, 2)

    # eager_attention_forward takes its softmax in float32; SDPA stays in float64.
    expected = F.scaled_dot_product_attention(
        split(q, 4), split(k, kv_heads), split(v, kv_heads), mask,
        scale=values["scale"], enable_gqa=True,
    ).transpose(1, 2).reshape(q.shape)  # fmt: skip
    theirs, _ = eager_attention_forward(
        _Heads(4 // kv_heads), split(q, 4), split(k, kv_heads), split(v, kv_heads), mask,
        scaling=values["scale"],
    )  # fmt: skip
    result = OPERATORS[name](*values.values())
    out, *saved = [result] if isinstance(result, Tensor) else result
    compare(out, expected)
    torch.testing.assert_close(out, theirs.reshape(q.shape), rtol=1e-6, atol=1e-6)
    grad = torch.randn_like(q)
    rest = [values[key] for key in ("start", "heads", "kv_heads", "scale")]
    actual = OPERATORS[f"{name}_backward"](grad, q, k, v, *saved, *rest)
    for ours, reference in zip(actual, backward(expected, grad, q, k, v), strict=True):
        compare(ours, reference)


def test_packed_documents_equal_separate_runs():
    sizes = replace(SIZES, t=9, packed=True)
    values = named("attention", sizes)
    out = OPERATORS["attention"](*values.values())
    starts = sorted(set(values["start"].tolist()))
    assert len(starts) == 3
    for begin, end in zip(starts, [*starts[1:], 9], strict=True):
        alone = {key: values[key][:, begin:end] for key in "qkv"}
        alone["start"] = torch.zeros(end - begin, dtype=torch.int32)
        out_alone = OPERATORS["attention"](*(values | alone).values())
        compare(out[:, begin:end], out_alone)


@pytest.mark.parametrize("t", LENGTHS)
@pytest.mark.parametrize("adapters", ["", "gate", "up down", "gate up down"])
@pytest.mark.parametrize(("name", "act"), [("swiglu", "silu"), ("geglu", "gelu_pytorch_tanh")])
def test_mlp_is_llamas(t, adapters, name, act):
    sizes = replace(SIZES, t=t, adapters=adapters)
    values = named(f"{name}_mlp_backward", sizes)
    config = LlamaConfig(hidden_size=sizes.d, intermediate_size=sizes.f, hidden_act=act)
    module = LlamaMLP(config).double()
    x = values["x"].requires_grad_()
    inputs = [x]
    for layer in ("gate", "up", "down"):
        merged = table(values, f"{layer}_")
        if layer in adapters.split():
            a, b = (values[f"{layer}_{part}"].requires_grad_() for part in "ab")
            merged = merged + values["scaling"] * b @ a
            inputs += [a, b]
        projection = getattr(module, f"{layer}_proj")
        del projection.weight
        projection.weight = merged
    expected = module(x)
    compare(OPERATORS[f"{name}_mlp"](*list(values.values())[1:]), expected)
    actual = OPERATORS[f"{name}_mlp_backward"](*values.values())
    present = [gradient for gradient in actual if gradient.shape != (0,)]
    for ours, theirs in zip(present, backward(expected, values["grad"], *inputs), strict=True):
        compare(ours, theirs)


def test_mlp_in_parts_is_the_mlp():
    """The composition that keeps its intermediates gives what the single operator gives."""
    values = named("swiglu_mlp", SIZES)

    def layer(name: str, x: Tensor) -> Tensor:
        arguments_ = [values[f"{name}_{part}"] for part in ("codes", "scale", "offset")]
        adapter = [values[f"{name}_a"], values[f"{name}_b"]]
        return OPERATORS["lora_linear_saved"](x, *arguments_, None, *adapter, values["scaling"])[0]

    x = values["x"]
    act = OPERATORS["silu_mul"](layer("gate", x), layer("up", x))
    compare(layer("down", act), OPERATORS["swiglu_mlp"](*values.values()))


@pytest.mark.parametrize("t", LENGTHS)
@pytest.mark.parametrize("scheme", ["int4", "int4-symmetric", "int8"])
def test_cross_entropy_is_torchs(t, scheme):
    values = named("linear_cross_entropy", replace(SIZES, t=t, scheme=scheme))
    x, vocab = values["x"].requires_grad_(), values["vocab"]
    logits = F.linear(x[0], table(values)[:vocab])
    expected = F.cross_entropy(logits, values["labels"][0].long(), reduction="sum")
    loss, dx = OPERATORS["linear_cross_entropy"](*values.values())
    compare(loss, expected)
    compare(dx, backward(expected, torch.tensor(1.0, dtype=torch.float64), x)[0])
    compare(OPERATORS["linear_cross_entropy_loss"](*values.values()), expected)


def test_cross_entropy_without_labels_is_zero():
    values = named("linear_cross_entropy", SIZES)
    values["labels"] = torch.full_like(values["labels"], -100)
    loss, dx = OPERATORS["linear_cross_entropy"](*values.values())
    assert loss == 0
    assert not dx.any()


def test_cross_entropy_of_large_logits_is_finite():
    values = named("linear_cross_entropy", SIZES)
    values["x"] = values["x"] * 1e4
    loss, dx = OPERATORS["linear_cross_entropy"](*values.values())
    assert loss.isfinite()
    assert dx.isfinite().all()


@pytest.mark.parametrize("scheme", ["int4", "int4-symmetric", "int8"])
def test_embedding_is_torchs(scheme):
    values = named("quantized_embedding", replace(SIZES, t=33, scheme=scheme))
    actual = OPERATORS["quantized_embedding"](*values.values())
    assert torch.equal(actual, F.embedding(values["tokens"].long(), table(values).float()))
