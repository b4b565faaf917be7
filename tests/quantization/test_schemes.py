"""Quantization schemes: errors, stored precision, degenerate groups, chunks."""

import pytest
import torch
from torchao.quantization.quant_primitives import (
    MappingType,
    choose_qparams_affine,
    dequantize_affine,
    quantize_affine,
)

from toolkit.errors import ToolkitError
from toolkit.quantization import schemes
from toolkit.quantization.layout import weight_layout
from toolkit.quantization.packing import unpack, unpack_groups
from toolkit.quantization.schemes import SCHEMES, quantize

# Relative error on Gaussian weights, slightly above what the module's docstring states.
GAUSSIAN_ERROR = {"int4": 0.0720, "int4-symmetric": 0.0822, "int8": 0.0058}


def gaussian(n: int = 512, k: int = 512, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * 0.02


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def parameters(tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, scale and offset as floats [N, K/32, 32 or 1]."""
    codes = unpack(tensor.codes, tensor.bits).float().unflatten(1, (-1, 32))
    scale = unpack_groups(tensor.scale).float()[..., None]
    if tensor.offset is not None:
        return codes, scale, unpack_groups(tensor.offset).float()[..., None]
    return codes - (8 if tensor.bits == 4 else 0), scale, torch.zeros_like(scale)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_error_on_gaussian_weights(scheme):
    weight = gaussian()
    assert relative_error(quantize(weight, scheme).dequantize(), weight) < GAUSSIAN_ERROR[scheme]


@pytest.mark.parametrize(
    "scheme, mapping, dtype, low, high",
    [
        ("int4", MappingType.ASYMMETRIC, torch.uint8, 0, 15),
        ("int4-symmetric", MappingType.SYMMETRIC_NO_CLIPPING_ERR, torch.int8, -8, 7),
        ("int8", MappingType.SYMMETRIC, torch.int8, -127, 127),
    ],
)
@pytest.mark.parametrize("heavy_tails", [False, True])
def test_better_than_ranges_alone(scheme, mapping, dtype, low, high, heavy_tails):
    weight = gaussian()
    if heavy_tails:
        weight = weight * weight.abs() * 50
    block = (1, 32)
    scale, zero = choose_qparams_affine(weight, mapping, block, dtype, low, high)
    theirs = dequantize_affine(
        quantize_affine(weight, block, scale, zero, dtype, low, high),
        block, scale, zero, dtype, low, high,
    )  # fmt: skip
    ratio = relative_error(quantize(weight, scheme).dequantize(), weight) / relative_error(
        theirs, weight
    )
    if scheme == "int8":  # not refined; its scale loses a little as float16
        assert ratio < 1.01
    else:
        assert ratio < (0.97 if heavy_tails else 0.92)


def range_alone(groups, scheme):
    """Scale and offset of each group's range as float16 holds them, least and last code."""
    low, high = groups.amin(-1, True), groups.amax(-1, True)
    if scheme == "int4":
        return ((high - low) / 15).half().double(), low.half().double(), 0, 15
    if scheme == "int8":
        scale = groups.abs().amax(-1, True) / 127
        return scale.half().double(), torch.zeros_like(scale).double(), -127, 127
    # Code -8 for the value of largest magnitude, unless that clips the other side.
    scale = torch.where(
        high > -low, -torch.maximum(high / 8, -low / 7), torch.maximum(-low / 8, high / 7)
    )
    return scale.half().double(), torch.zeros_like(scale).double(), -8, 7


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("power", [1, 3], ids=["gaussian", "heavy-tails"])
def test_no_group_is_worse_than_by_its_range_alone(scheme, power):
    weight = (gaussian() * 50) ** power
    weight[5, :32], weight[6, :32] = 0.25, 0.0
    groups = weight.unflatten(1, (-1, 32)).double()
    scale, offset, low, high = range_alone(weight.unflatten(1, (-1, 32)), scheme)
    codes = ((groups - offset) / scale).nan_to_num(0).round().clamp(low, high)
    theirs = (codes * scale + offset - groups).square().sum(-1)
    ours = quantize(weight, scheme).dequantize().double().unflatten(1, (-1, 32)) - groups
    ours = ours.square().sum(-1)
    # Sums of 32 float32 squares decide between candidates.
    assert (ours <= theirs * (1 + 32 * 2**-23) + 1e-12).all()
    assert scheme == "int8" or ours.sum() < (0.9 if power == 1 else 0.97) * theirs.sum()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_codes_are_the_nearest_for_the_stored_parameters(scheme):
    weight = gaussian(64, 128)
    tensor = quantize(weight, scheme)
    codes, scale, offset = parameters(tensor)
    low, high = {"int4": (0, 15), "int4-symmetric": (-8, 7), "int8": (-127, 127)}[scheme]
    assert codes.min() >= low
    assert codes.max() <= high
    groups = weight.unflatten(1, (-1, 32))
    error = (scale * codes + offset - groups).abs()
    for step in (-1, 1):
        other = (codes + step).clamp(low, high)
        assert (error <= (scale * other + offset - groups).abs() + 1e-7).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_chunks_change_nothing(scheme, monkeypatch):
    weight = gaussian(77, 64)
    whole = quantize(weight, scheme)
    monkeypatch.setattr(schemes, "_CHUNK", 32 * 64)
    parts = quantize(weight, scheme)
    assert torch.equal(parts.codes, whole.codes)
    assert torch.equal(parts.scale, whole.scale)
    assert whole.offset is None or torch.equal(parts.offset, whole.offset)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("n, k", [(16, 32), (1, 32), (17, 64), (48, 96)])
def test_shapes_match_the_layout_and_padding_is_zero(scheme, n, k):
    weight = gaussian(n, k)
    tensor = quantize(weight, scheme)
    for name, (shape, dtype) in weight_layout(scheme).tensors(n, k).items():
        assert getattr(tensor, name).shape == shape
        assert getattr(tensor, name).dtype == dtype
    values = tensor.dequantize()
    assert values.shape == (-(-n // 16) * 16, k)
    assert not values[n:].any()
    assert relative_error(values[:n], weight) < 0.11


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("value", [0.0, 0.5, -0.5, 1e-9])
def test_constant_groups(scheme, value):
    values = quantize(torch.full((16, 64), value), scheme).dequantize()
    assert (values - value).abs().max() <= abs(value) * 2**-10 + 1e-8


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_quantized_by_value(scheme, dtype):
    weight = gaussian(32, 64).to(dtype)
    assert torch.equal(quantize(weight, scheme).codes, quantize(weight.float(), scheme).codes)


def test_symmetric_scale_reaches_the_largest_value_of_either_sign():
    weight = torch.zeros(16, 32)
    weight[0, 3], weight[1, 3] = 1.0, -1.0
    values = quantize(weight, "int4-symmetric").dequantize()
    assert values[0, 3] == 1.0
    assert values[1, 3] == -1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_values_that_cannot_be_stored_are_refused(scheme, bad):
    weight = gaussian(16, 32)
    weight[3, 3] = bad * 100
    with pytest.raises(ToolkitError, match="not finite"):
        quantize(weight, scheme)


def test_unknown_scheme_and_width_are_refused():
    with pytest.raises(ToolkitError, match="unknown quantization scheme 'int3'"):
        quantize(gaussian(16, 32), "int3")
    with pytest.raises(ToolkitError, match="multiple of 32"):
        quantize(gaussian(16, 40), "int4")
