"""NaN and infinity must come out of every operator that is given them, never become a number."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from tests.runtime.kernels.native import available_isas, execute, export_calls, library
from tests.support.operators import Sizes, arguments
from toolkit.ops import OPERATORS

# Vectors and tails, two strips of keys, parts of the head and of the MLP.
SIZES = Sizes(t=530, d=64, f=96, heads=2, kv_heads=1, head_dim=12, vocab=50, packed=False)
NAN, INFINITY = math.nan, math.inf
LENGTHS = (1, 3, 16, 37)
SPOILT = 200  # a row in the middle

# Operator, spoilt argument, and the outputs that must show it in that row.
CASES = [
    ("attention", "q", ["out"]),
    ("attention", "k", ["out"]),
    ("attention_saved", "q", ["out", "probs"]),
    ("attention_backward", "q", ["dq", "dk"]),
    ("attention_backward", "k", ["dq", "dk"]),
    ("attention_backward", "v", ["dq"]),
    ("linear_cross_entropy", "x", ["loss", "dx"]),
    ("linear_cross_entropy_loss", "x", ["out"]),
    ("silu_mul", "gate", ["out"]),
    ("silu_mul_backward", "gate", ["dgate", "dup"]),
    ("swiglu_mlp", "x", ["out"]),
    ("swiglu_mlp_backward", "x", ["dx"]),
    ("rms_norm", "x", ["out"]),
    ("lora_linear", "x", ["out"]),
]
NAMES = sorted({name for name, _, _ in CASES})
SCALED = ["quantized_embedding", "quantized_linear", "quantized_linear_backward"]


@cache
def drawn(name: str) -> dict:
    values = dict(zip(OPERATORS[name].arguments, arguments(name, SIZES), strict=True))
    if "labels" in values:
        values["labels"] = values["labels"].clamp(min=0)  # every row counts
    return values


def values_of(name: str) -> dict:
    """Arguments of an operator; what is in them must not be changed."""
    return dict(drawn(name))


def nothing_but_nan(length: int) -> list:
    """Arguments of attention with NaN for all queries."""
    sizes = Sizes(t=length, heads=1, kv_heads=1, packed=False)
    q, *others = arguments("attention", sizes)
    return [torch.full_like(q, NAN), *others]


@pytest.fixture(scope="module")
def program():
    calls = {name: {name: list(values_of(name).values())} for name in NAMES + SCALED}
    calls |= {f"nan{length}": {"attention": nothing_but_nan(length)} for length in LENGTHS}
    return export_calls(calls)


def run(program, isa: str, name: str, values: dict) -> dict[str, Tensor]:
    assert library().select_isa(isa)
    library().set_threads(2)
    results = execute(program, name, {name: list(values.values())})[name]
    return dict(zip(OPERATORS[name].outputs, results, strict=True))


def row_of(output: Tensor, name: str) -> Tensor:
    """What row SPOILT of the sequence has in an output."""
    if output.dim() == 0:
        return output
    return output[:, SPOILT] if name == "probs" else output.reshape(SIZES.t, -1)[SPOILT]


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("name, argument, outputs", CASES)
def test_comes_out_again(program, isa, name, argument, outputs):
    clean = run(program, isa, name, values_of(name))
    for output in outputs:
        assert row_of(clean[output], output).isfinite().all()
    for value in (NAN, INFINITY, -INFINITY):
        if value == -INFINITY and name.startswith("silu"):
            continue  # a legitimate zero
        values = values_of(name)
        values[argument] = values[argument].clone()
        values[argument][0, SPOILT, 3] = value
        if argument == "k":  # a score of minus infinity would be a legitimate zero
            values["q"] = values["q"].clone()
            values["q"][0, SPOILT, 3] = -1.0 if value < 0 else 1.0
        spoilt = run(program, isa, name, values)
        for output in outputs:
            assert not row_of(spoilt[output], output).isfinite().all(), (value, output)
        if name in ("attention", "attention_saved"):
            assert spoilt["out"][0, :SPOILT].isfinite().all()  # earlier rows do not see it


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("length", LENGTHS)
def test_rows_of_nothing_but_nan_have_no_probabilities(program, isa, length):
    assert library().select_isa(isa)
    (out,) = execute(program, f"nan{length}", {"attention": nothing_but_nan(length)})["attention"]
    assert out.isnan().all()


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("parameter", ["scale", "offset"])
def test_halves_are_converted_exactly(program, isa, name, parameter):
    """Every kind of fp16, subnormals also where the processor flushes those of floats."""
    values = values_of(name)
    if name == "quantized_embedding":
        values["tokens"] = torch.arange(SIZES.t, dtype=torch.int32)[None] % 48
    else:
        shape = next(iter(values.values())).shape
        x = torch.zeros(shape)  # identity: an output element is one weight
        x[0, : shape[-1]] = torch.eye(shape[-1])
        values[next(iter(values))] = x
    patterns = torch.arange(values[parameter].numel()) * 1021 % 65536
    patterns[::7] = 0x0001 + patterns[::7] % 0x3FF  # subnormal
    finite = patterns.to(torch.int16).view(torch.half)
    finite = torch.where(finite.isfinite(), finite, 1.0).reshape(values[parameter].shape)
    # With the other one zero, a weight is a product or a sum without rounding.
    values |= {"scale": torch.zeros_like(finite), "offset": torch.zeros_like(finite)}
    values[parameter] = finite
    torch.set_flush_denormal(True)
    try:
        library().set_threads(1)
        assert library().select_isa(isa)
        (actual,) = execute(program, name, {name: list(values.values())})[name]
    finally:
        torch.set_flush_denormal(False)
    exact = [
        a.double() if torch.is_tensor(a) and a.is_floating_point() else a for a in values.values()
    ]
    expected = OPERATORS[name].reference(*exact)
    assert torch.equal(actual, expected.float())

    for value in (INFINITY, -INFINITY, NAN):
        values[parameter] = torch.full_like(finite, value)
        (spoilt,) = run(program, isa, name, values).values()
        assert not spoilt.isfinite().any()
