"""Products in 16-bit fixed point: the same bits everywhere, the integers that are written down."""

import math

import pytest
import torch
from torch import Tensor

from tests.runtime.kernels.native import EPSILON, integer_isas, kernels_probe, library
from toolkit.quantization.packing import QuantizedTensor, unpack, unpack_groups
from toolkit.quantization.schemes import quantize

GROUP, LIMIT = 32, 32639
# Tokens, depth, rows, scheme: single ones, tails of blocks and groups, an odd number of panels,
# several stretches of the depth, and those of long sequences, which depend on the blocks of rows.
SHAPES = [
    (1, 32, 16, "int4"),
    (5, 96, 48, "int8"),
    (37, 288, 80, "int4-symmetric"),
    (77, 1120, 1104, "int4"),
    (13, 544, 272, "int8"),
    (1030, 64, 896, "int4"),
]
DIRECTIONS = [False, True]


def drawn(
    tokens: int, depth: int, rows: int, scheme: str
) -> tuple[Tensor, Tensor, QuantizedTensor]:
    """Return x, dy and W: groups of very different size, zeros among them."""
    generator = torch.Generator().manual_seed(tokens + depth)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    weight = quantize(normal(rows, depth) * normal(rows, 1), scheme)
    x, dy = normal(tokens, depth) * normal(tokens, 1).exp(), normal(tokens, rows) * 1e-3
    x[0, : depth // 2] = 0
    return x, dy, weight


def divided(number: float, by: Tensor) -> Tensor:
    """Return a quotient that is rounded once; number / tensor multiplies with a reciprocal."""
    return torch.full_like(by, number) / by


def groups_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return q [T, groups, 32] and the scales [T, groups, 1] as floats round them."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[1] % GROUP))
    parts = padded.reshape(len(x), -1, GROUP)
    largest = parts.abs().amax(-1, keepdim=True).clamp(min=2.0**-110)
    return (parts * divided(LIMIT, largest)).round().double(), (largest / LIMIT).double()


def parameters(w: QuantizedTensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return centred codes [N, K], scales and the offsets that go with them, [N, K / 32]."""
    codes = unpack(w.codes, w.bits).double()
    scale = unpack_groups(w.scale).double()
    if w.bits == 8:
        return codes, scale, torch.zeros_like(scale)
    offset = -8 * scale if w.offset is None else unpack_groups(w.offset).double()
    # 8 scale + offset is rounded as a float.
    return codes - 8, scale, (8 * scale + offset).float().double()


def forward(x: Tensor, w: QuantizedTensor) -> Tensor:
    q, scale = groups_of(x)
    codes, weight_scale, offset = parameters(w)
    grouped = codes.reshape(len(codes), -1, GROUP)
    sums = torch.einsum("tgi,ngi->tng", q, grouped)
    totals = q.sum(-1)[:, None]
    return ((sums * weight_scale + totals * offset) * scale[..., 0][:, None]).sum(-1)


def ratios(factors: Tensor) -> tuple[Tensor, Tensor]:
    """Return factors [blocks, 32, groups] as whole numbers up to 32767, and the largest of each."""
    largest = factors.abs().amax(1, keepdim=True)
    inverse = divided(32767, largest.float()).nan_to_num(posinf=0.0)
    return (factors.float() * inverse).round().double(), largest[:, 0, :, None]


def backward(dy: Tensor, w: QuantizedTensor) -> Tensor:
    q, scale = groups_of(dy)
    codes, weight_scale, offset = parameters(w)
    rows = -len(codes) % GROUP  # of an odd number of panels
    blocks = [
        torch.nn.functional.pad(t, (0, 0, 0, rows)).reshape(-1, GROUP, t.shape[1])
        for t in (codes, weight_scale, offset)
    ]
    ratio, largest = ratios(blocks[1])
    scaled = ((q[..., None] * ratio + 2**14) / 2**15).floor()  # [T, blocks, 32, groups]
    grouped = blocks[0].reshape(*blocks[0].shape[:2], -1, GROUP)
    sums = torch.einsum("tbig,bigk->tbgk", scaled, grouped)
    shift_ratio, shift_largest = ratios(blocks[2])
    shifts = torch.einsum("tbi,big->tbg", q, shift_ratio)[..., None]
    products = sums * largest * (32768 / 32767) + shifts * shift_largest / 32767
    return (products * scale[..., None]).sum(1).reshape(len(dy), -1)


def multiply(isa: str, x: Tensor, w: QuantizedTensor, transposed: bool, threads: int = 1) -> Tensor:
    assert library().select_isa(isa) and library().select_arithmetic("fixed16")
    library().set_threads(threads)
    return library().multiply(x, w, transposed)


@pytest.mark.parametrize("transposed", DIRECTIONS, ids=["x Wt", "dy W"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_instruction_set_gives_the_integers_that_are_written_down(shape, transposed):
    x, dy, weight = drawn(*shape)
    operand = dy if transposed else x
    expected = (backward if transposed else forward)(operand, weight)
    plain = multiply("plain", operand, weight, transposed)
    # Floats are summed once a group; a single other integer would be 2^-16 of a group away.
    groups = math.ceil(operand.shape[1] / GROUP)
    bound = 4 * EPSILON * math.sqrt(groups) * expected.abs().amax(1, keepdim=True)
    assert ((plain - expected).abs() <= bound).all()
    dense = weight.dequantize(torch.float64)
    exact = operand.double() @ (dense if transposed else dense.T)
    assert (plain - exact).norm() < 1e-4 * exact.norm()
    for isa in integer_isas():
        for threads in (1, 3):
            assert torch.equal(multiply(isa, operand, weight, transposed, threads), plain), isa


@pytest.mark.parametrize("isa", integer_isas())
@pytest.mark.parametrize("transposed", DIRECTIONS, ids=["x Wt", "dy W"])
def test_what_is_no_number_comes_out_again(isa, transposed):
    x, dy, weight = drawn(*SHAPES[3])
    for value in (math.nan, math.inf, -math.inf):
        operand = (dy if transposed else x).clone()
        clean = multiply(isa, operand, weight, transposed)
        operand[9, -1] = value
        spoilt = multiply(isa, operand, weight, transposed)
        assert spoilt[9].isnan().all()
        assert torch.equal(spoilt[[8, 10]], clean[[8, 10]])
        # Of a weight in its group of 32 features; dy W spreads it over the group's columns.
        scale = weight.scale.clone()
        scale[2, 1, 3] = value
        broken = multiply(isa, operand[:8], QuantizedTensor(weight.codes, scale, weight.offset),
                          transposed)  # fmt: skip
        column = slice(32, 64) if transposed else 2 * 16 + 3
        assert not broken[:, column].isfinite().any()


@pytest.mark.parametrize("isa", integer_isas())
def test_the_smallest_numbers_keep_what_floats_have(isa):
    weight = drawn(*SHAPES[1])[2]
    x = torch.full((3, 96), 1e-37)
    x[0] = 2.0**-126
    x[1, :32] = 0
    x[2] = 1e35
    expected = x.double() @ weight.dequantize(torch.float64).T
    actual = multiply(isa, x, weight, False)
    error = (actual - expected).abs().amax(1)
    assert (error <= 1e-4 * expected.abs().amax(1) + 96 * 2.0**-126).all()
    assert actual.isfinite().all()


@pytest.mark.parametrize("case", ["blocks"])
@pytest.mark.parametrize("isa", sorted({"avx2", "plain"} & set(integer_isas())))
def test_operators_have_the_same_bits_where_threads_have_rows_of_their_own(suite, case, isa):
    assert library().select_arithmetic("fixed16")
    alone = suite.run(isa, 1)[case]
    assert library().select_arithmetic("float32")
    suite.run(isa, 1)  # else what nobody writes might still be there
    assert library().select_arithmetic("fixed16")
    together = suite.run(isa, 2)[case]
    for name, outputs in alone.items():
        assert all(map(torch.equal, outputs, together[name])), name


@pytest.mark.parametrize("case", ["tails", "blocks"])
def test_operators_are_within_what_16_bits_round(suite, case):
    """Those with quantized products, LoRA, bias and activations beside them; the others are as in
    float32."""
    names = [name for name in suite.calls[case] if any(w in name for w in ("linear", "mlp"))]
    assert len(names) > 8
    usual = suite.run(library().default_isa, 2)
    assert library().select_arithmetic("fixed16")
    runs = [suite.run(library().default_isa, threads) for threads in (1, 2, 3)]
    for name in suite.calls[case]:
        outputs = zip(*(run[case][name] for run in (*runs, usual)), strict=True)
        reference = suite.references[case][name]
        for one, two, three, float32, exact in (
            (*o, e) for o, e in zip(outputs, reference, strict=True)
        ):
            assert torch.equal(one, two) and torch.equal(one, three), name
            if name in names:
                assert (one - exact).norm() <= 1e-3 * exact.norm(), name
            else:
                assert torch.equal(one, float32), name
    changed = [n for n in names if not torch.equal(runs[0][case][n][0], usual[case][n][0])]
    assert changed == names


def test_the_probe_finds_the_same_bits_on_all_instruction_sets():
    lines = dict(line.split() for line in kernels_probe("products"))
    assert set(lines) == set(integer_isas())
    assert len(set(lines.values())) == 1, lines
