"""Autograd formulas and backward operators, in float64, on all variants."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tests.support.operators import Sizes, arguments, forward_name, in_double
from toolkit.ops import OPERATORS

SMALL = Sizes(t=4, d=32, f=32, heads=4, kv_heads=2, head_dim=4, rank=2, vocab=19)
VARIANTS = {
    "affine": SMALL,
    "symmetric": replace(SMALL, scheme="int4-symmetric", bias=False, packed=False),
    "int8": replace(SMALL, scheme="int8", adapters="gate down"),
    "no adapters": replace(SMALL, adapters=""),
    "one token": replace(SMALL, t=1),
    "one head per group": replace(SMALL, t=7, kv_heads=4, groups=4),
    "one kv head": replace(SMALL, t=6, kv_heads=1),
}
DIFFERENTIABLE = {
    "quantized_linear": "x",
    "lora_linear": "x a b",
    "lora_linear_saved": "x a b",
    "rms_norm": "x",
    "rms_norm_saved": "x",
    "rope": "x",
    "split_rope": "qkv",
    "attention": "q k v",
    "attention_saved": "q k v",
    "swiglu_mlp": "x gate_a gate_b up_a up_b down_a down_b",
    "silu_mul": "gate up",
    "gelu_mul": "gate up",
    "geglu_mlp": "x gate_a gate_b up_a up_b down_a down_b",
    "fused_swiglu_mlp": "x gate_up_a gate_up_b down_a down_b",
    "swiglu": "gate_up",
    "linear_cross_entropy": "x",
    "linear_cross_entropy_loss": "x",
    "add": "a b",
    "scale": "x",
    "multiply": "a b",
    "scale_features": "x",
    "halves": "x",
    "joined": "first second",
    "normalize": "x",
}
APPROXIMATE = ("resilu2", "regelu2")
"""What has another gradient than its own: tests/ops/test_approximate.py."""
BACKWARD = [
    name
    for name in OPERATORS
    if name.endswith("_backward") and forward_name(name) not in APPROXIMATE
]


def leaves(name: str, args: list) -> list[Tensor]:
    """The differentiable arguments that are given."""
    names = DIFFERENTIABLE[name].split()
    named = zip(OPERATORS[name].arguments, args, strict=True)
    return [arg for argument, arg in named if argument in names and arg is not None]


def differentiable(name: str, result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The outputs that have gradients: the first, but for q, k and v, and halves."""
    outputs = result if isinstance(result, tuple) else (result,)
    return outputs if name in ("split_rope", "halves") else outputs[:1]


def substitute(args: list, old: list[Tensor], new: tuple[Tensor, ...]) -> list:
    by_identity = {id(o): n for o, n in zip(old, new, strict=True)}
    return [by_identity.get(id(arg), arg) for arg in args]


def test_every_operator_is_in_a_table():
    without = {"quantized_embedding", "window_start", "attention_cached"}
    approximate = {name + end for name in APPROXIMATE for end in ("", "_backward")}
    covered = {*DIFFERENTIABLE, *BACKWARD, *without, *approximate}
    assert covered == set(OPERATORS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradcheck(name, variant):
    args = in_double(arguments(name, VARIANTS[variant]))
    inputs = leaves(name, args)
    for tensor in inputs:
        tensor.requires_grad_()
    torch.autograd.gradcheck(
        lambda *new: differentiable(name, OPERATORS[name](*substitute(args, inputs, new))), inputs
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", BACKWARD)
def test_backward_operator_is_the_derivative_of_the_reference(name, variant):
    """Against torch's own differentiation of the forward reference, whole tensors."""
    forward = forward_name(name)
    sizes = VARIANTS[variant]
    args = in_double(arguments(forward, sizes))
    inputs = leaves(forward, args)
    for tensor in inputs:
        tensor.requires_grad_()
    outputs = differentiable(forward, OPERATORS[forward].reference(*args))
    backward_args = dict(
        zip(OPERATORS[name].arguments, in_double(arguments(name, sizes)), strict=True)
    )
    saved = zip(OPERATORS[forward].outputs, _in_double_forward(forward, args), strict=True)
    backward_args |= {key: value for key, value in saved if key in backward_args}
    grads = list(backward_args.values())[: len(outputs)]
    expected = torch.autograd.grad(outputs, inputs, grads)
    result = OPERATORS[name](*backward_args.values())
    actual = [result] if isinstance(result, Tensor) else [g for g in result if g.shape != (0,)]
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def _in_double_forward(name: str, args: list) -> list[Tensor]:
    """Outputs of the forward in float64, which the `_saved` backwards take."""
    detached = [arg.detach() if isinstance(arg, Tensor) else arg for arg in args]
    result = OPERATORS[name](*detached)
    return list(result) if isinstance(result, tuple) else [result]


def test_rope_inverse_is_the_transpose():
    args = in_double(arguments("rope"))
    x, y = args[0], torch.randn_like(args[0])
    forward = OPERATORS["rope"](*args)
    backward = OPERATORS["rope"](y, *args[1:-1], True)
    torch.testing.assert_close((forward * y).sum(), (x * backward).sum(), rtol=1e-13, atol=0)


def test_absent_adapters_have_empty_gradients():
    args = arguments("swiglu_mlp_backward", replace(SMALL, adapters="up"))
    shapes = [tuple(output.shape) for output in OPERATORS["swiglu_mlp_backward"](*args)]
    assert shapes == [(1, 4, 32), (0,), (0,), (2, 32), (32, 2), (0,), (0,)]


@pytest.mark.parametrize(
    "name, frozen",
    [
        ("lora_linear", "bias"),
        ("quantized_linear", "bias"),
        ("rms_norm", "weight"),
        ("scale", "factor"),
    ],
)
def test_gradient_of_a_frozen_argument_is_refused(name, frozen):
    args = arguments(name)
    args[OPERATORS[name].arguments.index(frozen)].requires_grad_()
    with pytest.raises(RuntimeError, match=f"toolkit::{name} has no gradient for '{frozen}'"):
        differentiable(name, OPERATORS[name](*args))[0].sum().backward()


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_inside_make_fx_is_our_operators_only(name):
    args = arguments(name)
    inputs = leaves(name, args)
    outputs = differentiable(name, OPERATORS[name](*args))

    def gradients(*given: Tensor) -> tuple[Tensor, ...]:
        grads, tensors = given[: len(outputs)], given[len(outputs) :]
        with torch.enable_grad():
            new = tuple(t.detach().requires_grad_() for t in tensors)
            found = differentiable(name, OPERATORS[name](*substitute(args, inputs, new)))
            return torch.autograd.grad(found, new, grads)

    grads = [torch.randn(output.shape) for output in outputs]
    for mode in ("real", "fake"):
        traced = make_fx(
            gradients,
            decomposition_table={torch.ops.aten.detach.default: lambda x: x},
            tracing_mode=mode,
            _allow_non_fake_inputs=True,
        )(*grads, *inputs)
        targets = {str(node.target) for node in traced.graph.nodes if node.op == "call_function"}
        foreign = {t for t in targets if not t.startswith("toolkit.") and "getitem" not in t}
        assert not foreign, (mode, foreign)
        eager = gradients(*grads, *inputs)
        for ours, theirs in zip(traced(*grads, *inputs), eager, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
