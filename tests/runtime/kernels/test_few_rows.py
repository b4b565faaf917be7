"""Products of so few rows that weights are multiplied where they lie."""

import math

import pytest
import torch
from torch import Tensor

from tests.runtime.kernels.native import EPSILON, available_isas, integer_isas, library
from tests.runtime.kernels.test_fixed16 import SHAPES, drawn
from tests.runtime.kernels.test_fixed16 import multiply as multiply_fixed16
from toolkit.quantization.packing import QuantizedTensor

GROUP, MOST, MOST_FIXED16 = 32, 4, 8  # the latter on some
ISAS = sorted({*available_isas(), *integer_isas()})


def multiply(isa: str, x: Tensor, w: QuantizedTensor, threads: int = 1) -> Tensor:
    assert library().select_isa(isa) and library().select_arithmetic("float32")
    library().set_threads(threads)
    return library().multiply(x, w, False)


def rows(shape: tuple, count: int) -> tuple[Tensor, QuantizedTensor]:
    """Return so many rows, one element in a hundred a hundred times as large, and a weight."""
    _, depth, features, scheme = shape
    x, _, weight = drawn(count, depth, features, scheme)
    large = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.01
    return torch.where(large, 100 * x, x), weight


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_is_as_exact_as_sums_of_floats(isa, shape):
    """What a group's largest number hides of the others is less than its last digit."""
    x, weight = rows(shape, MOST)
    dense = weight.dequantize(torch.float64)
    sizes = x.reshape(MOST, 1, -1, GROUP).abs().amax(-1).double()
    bound = 2 * EPSILON * (sizes * dense.reshape(len(dense), -1, GROUP).abs().sum(-1)).sum(-1)
    exact = x.double() @ dense.T
    for count in (1, MOST):
        found = multiply(isa, x[:count], weight)
        assert ((found - exact[:count]).abs() <= bound[:count]).all()
        assert torch.equal(found, multiply(isa, x[:count], weight, threads=3))


def test_float32_names_the_instruction_set_whose_code_few_rows_run():
    assert library().select_arithmetic("float32")
    for isa in integer_isas():
        assert library().select_isa(isa)
        # These units multiply pairs of 16 bits, which is nothing for float32.
        assert library().isa == ("avx2" if isa == "avxvnni" else isa)


@pytest.mark.parametrize("isa", integer_isas())
@pytest.mark.parametrize("shape", SHAPES[2:5], ids=str)
def test_fixed16_has_the_bits_of_many_rows(isa, shape):
    x, _, weight = drawn(*shape)
    many = multiply_fixed16(isa, x, weight, False)
    assert len(x) > MOST_FIXED16
    for count in (1, 5, MOST_FIXED16):
        assert torch.equal(multiply_fixed16(isa, x[:count], weight, False), many[:count])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("scheme", ["int4", "int8"])
def test_what_is_no_number_comes_out_again(isa, scheme):
    x, weight = rows((3, 96, 48, scheme), 3)
    clean = multiply(isa, x, weight)
    for value in (math.nan, math.inf, -math.inf):
        spoilt = x.clone()
        spoilt[1, 40] = value
        found = multiply(isa, spoilt, weight)
        assert not found[1].isfinite().any()
        assert torch.equal(found[[0, 2]], clean[[0, 2]])
