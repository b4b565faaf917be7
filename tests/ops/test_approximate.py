"""Activations with approximate gradients, against the paper's rule as PyTorch code."""

import pytest
import torch

from toolkit.ops import OPERATORS
from toolkit.ops.approximate import pack, unpack
from toolkit.oracle.approximate import ApproximateFunction, approximation

NAMES = {"resilu2": False, "regelu2": True}
# Both sides of every threshold of either activation, and far away.
EDGES = [c + d for c in (-6.31, -3.19, -0.0012, -0.0009, 3.19, 6.33) for d in (-0.02, 0.0, 0.02)]


def given(size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    x = 4 * torch.randn(1, 3, size, dtype=torch.float64, generator=generator)
    x[0, 0, : len(EDGES)] = torch.tensor(EDGES[:size], dtype=torch.float64)
    return x


@pytest.mark.parametrize("size", [1, 18, 64, 67])
@pytest.mark.parametrize("name", NAMES)
def test_value_is_exact_and_gradient_by_the_rule(name, size):
    x = given(size).requires_grad_()
    grad = torch.randn_like(x)
    expected = ApproximateFunction.apply(x, NAMES[name])
    (slope,) = torch.autograd.grad(expected, x, grad)
    y, codes = OPERATORS[name](x)
    assert (codes.dtype, codes.shape) == (torch.uint8, (1, 3, -(-size // 4)))
    assert torch.equal(y, expected)
    (actual,) = torch.autograd.grad(y, x, grad)
    torch.testing.assert_close(actual, slope, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_near_the_derivative_but_not_it(name):
    """Root mean square of the error for x ~ N(0, 1), and its largest."""
    x = torch.special.ndtri((torch.arange(20000, dtype=torch.float64) + 0.5) / 20000)[None]
    x.requires_grad_()
    activation = torch.nn.functional.gelu if NAMES[name] else torch.nn.functional.silu
    (true,) = torch.autograd.grad(activation(x).sum(), x)
    (ours,) = torch.autograd.grad(OPERATORS[name](x)[0].sum(), x)
    error = ours - true
    assert error.square().mean().sqrt().item() == pytest.approx(
        {"resilu2": 0.29, "regelu2": 0.24}[name], abs=0.005
    )
    assert 0.5 < error.abs().max() < 0.56


@pytest.mark.parametrize("name", NAMES)
def test_slopes_far_away_are_those_of_the_activation(name):
    """The a of an activation sum to one."""
    far = torch.tensor([[-40.0, 40.0]], dtype=torch.float64)
    slopes = OPERATORS[f"{name}_backward"](torch.ones_like(far), OPERATORS[name](far)[1])
    torch.testing.assert_close(slopes, far.gt(0).double(), rtol=0, atol=1e-15)


def test_codes_are_packed_from_the_lowest_bits():
    counts = torch.tensor([[0, 1, 2, 3, 3], [3, 3, 3, 3, 1]])
    assert pack(counts).tolist() == [[0b11100100, 0b11], [255, 1]]
    assert torch.equal(unpack(pack(counts), 5), counts)


def test_distance_of_gradients():
    exact = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    ours = {"a": torch.tensor([3.0, 5.0]), "b": torch.tensor([4.0])}
    found = approximation(ours, exact)
    assert (found.relative, found.cosine) == pytest.approx((1.0, 0.5**0.5))
