"""Packing against the layout written out element by element."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import ToolkitError
from toolkit.quantization.packing import (
    QuantizedTensor,
    dequantize,
    dequantize_rows,
    pack,
    pack_groups,
    unpack,
    unpack_groups,
)


def random_codes(n: int, k: int, bits: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low, high = (0, 16) if bits == 4 else (-128, 128)
    return torch.randint(low, high, (n, k), generator=generator)


def test_int4_bytes_literally():
    codes = torch.zeros(16, 32, dtype=torch.int64)
    codes[3, 5], codes[11, 5], codes[15, 31] = 0xA, 0xB, 0xF
    packed = pack(codes, 4)
    assert packed.shape == (1, 32, 8)
    assert packed.dtype == torch.uint8
    assert packed[0, 5, 3] == 0xBA
    assert packed[0, 31, 7] == 0xF0
    assert packed.count_nonzero() == 2


def test_int8_elements_literally():
    codes = torch.zeros(32, 32, dtype=torch.int64)
    codes[17, 2], codes[31, 0] = -128, 127
    packed = pack(codes, 8)
    assert packed.shape == (2, 32, 16)
    assert packed.dtype == torch.int8
    assert packed[1, 2, 1] == -128
    assert packed[1, 0, 15] == 127
    assert packed.count_nonzero() == 2


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 70), st.integers(1, 4), st.sampled_from([4, 8]), st.integers(0, 1000))
def test_unpack_undoes_pack_and_pads_with_zero(n, groups, bits, seed):
    codes = random_codes(n, 32 * groups, bits, seed)
    unpacked = unpack(pack(codes, bits), bits)
    assert unpacked.shape[0] == -(-n // 16) * 16
    assert torch.equal(unpacked[:n].long(), codes)
    assert not unpacked[n:].any()


@pytest.mark.parametrize("bits, with_offset", [(4, False), (4, True), (8, False)])
def test_dequantize_element_by_element(bits, with_offset):
    n, k = 19, 64
    codes = random_codes(n, k, bits)
    scale = torch.rand(n, 2).half()
    offset = torch.randn(n, 2).half() if with_offset else None
    tensor = QuantizedTensor.from_groups(codes, scale, offset, bits)
    assert tensor.shape == (32, k)
    assert tensor.bits == bits
    assert tensor.nbytes == 32 * k * bits // 8 + 32 * 2 * 2 * (1 + with_offset)

    expected = torch.zeros(32, k, dtype=torch.float64)
    for row in range(n):
        for column in range(k):
            code = int(codes[row, column]) - (8 if bits == 4 and not with_offset else 0)
            value = float(scale[row, column // 32]) * code
            if with_offset:
                value += float(offset[row, column // 32])
            expected[row, column] = value
    # scale, offset and code have few enough bits for float64 to be exact; float32 rounds twice.
    assert torch.equal(tensor.dequantize(torch.float64), expected)
    bound = 2 * torch.finfo(torch.float32).eps * (15 + 3.0 * with_offset if bits == 4 else 128)
    assert (tensor.dequantize().double() - expected).abs().max() <= bound


def test_long_matrix_is_expanded_in_chunks_and_by_rows(monkeypatch):
    codes, scale = random_codes(80, 64, 4), torch.rand(80, 2)
    tensor = QuantizedTensor.from_groups(codes, scale, scale - 0.5, 4)
    whole = tensor.dequantize()
    monkeypatch.setattr("toolkit.quantization.packing._CHUNK", 2 * 16 * 64)
    assert torch.equal(dequantize(tensor.codes, tensor.scale, tensor.offset), whole)
    rows = torch.tensor([79, 0, 15, 16, 16], dtype=torch.int32)
    some = dequantize_rows(tensor.codes, tensor.scale, tensor.offset, rows)
    assert torch.equal(some, whole[rows])


def test_groups_round_trip():
    parameters = torch.randn(20, 3).half()
    packed = pack_groups(parameters)
    assert packed.shape == (2, 3, 16)
    assert packed[1, 2, 3] == parameters[19, 2]
    assert torch.equal(unpack_groups(packed)[:20], parameters)


@pytest.mark.parametrize(
    "codes, scale, offset",
    [
        (torch.zeros(1, 32, 8), torch.zeros(1, 1, 16).half(), None),
        (torch.zeros(1, 32, 16, dtype=torch.uint8), torch.zeros(1, 1, 16).half(), None),
        (torch.zeros(1, 40, 8, dtype=torch.uint8), torch.zeros(1, 1, 16).half(), None),
        (torch.zeros(1, 32, 8, dtype=torch.uint8), torch.zeros(1, 2, 16).half(), None),
        (torch.zeros(1, 32, 8, dtype=torch.uint8), torch.zeros(1, 1, 16), None),
        (torch.zeros(1, 32, 16, dtype=torch.int8), *[torch.zeros(1, 1, 16).half()] * 2),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(codes, scale, offset):
    with pytest.raises(ToolkitError, match="not a quantized weight"):
        QuantizedTensor(codes, scale, offset)


def test_width_that_is_no_multiple_of_the_group_is_refused():
    with pytest.raises(ToolkitError, match="multiple of 32"):
        QuantizedTensor.from_groups(torch.zeros(16, 40), torch.zeros(16, 1), None, 4)
