"""Attention over a cache: few rows and many, windows, and caches of several strips."""

import pytest
import torch

from tests.runtime.kernels.native import (
    assert_close,
    available_isas,
    execute,
    export_calls,
    library,
)
from tests.support.operators import Draw, Sizes, in_double
from tests.support.programs import tensors_of
from toolkit.ops import OPERATORS
from toolkit.ops.attention import attention

PAST = (0, 1, 255, 700)
ROWS = (1, 3, 8, 9, 40)
WINDOWS = (0, 1, 6, 300)


def sizes(rows: int) -> Sizes:
    return Sizes(t=rows, heads=6, kv_heads=2, head_dim=20)


def call(rows: int, past: int, window: int, spare: int = 2) -> list:
    s = sizes(rows)
    draw = Draw(s)
    q, k, v = (draw.real(1, rows, heads * s.head_dim) for heads in (6, 2, 2))
    cache = [draw.real(past + rows + spare, 2 * s.head_dim) for _ in range(2)]
    positions = torch.arange(past, past + rows, dtype=torch.int32)
    return [q, k, v, *cache, positions, window, 6, 2, 0.3]


# Every number of rows with every past, windows by turns.
CALLS = {
    f"{rows}_{past}": call(rows, past, WINDOWS[(i + j) % len(WINDOWS)])
    for i, rows in enumerate(ROWS)
    for j, past in enumerate(PAST)
}


@pytest.fixture(scope="module")
def program():
    return export_calls({name: {"attention_cached": args} for name, args in CALLS.items()})


@pytest.mark.parametrize("isa", available_isas())
def test_matches_the_reference_with_any_number_of_threads(program, isa):
    assert library().select_isa(isa)
    for name, args in CALLS.items():
        found = []
        for threads in (1, 2, 3):
            library().set_threads(threads)
            found += execute(program, name, {"attention_cached": args})["attention_cached"]
        expected = OPERATORS["attention_cached"].reference(*in_double(args))
        assert_close("attention_cached", found[:1], [expected], sizes(args[0].shape[1]))
        assert all(torch.equal(found[0], other) for other in found[1:]), name


def test_the_reference_is_attention_over_all_tokens():
    """The last rows of a whole sequence, with the cache's rows as its first."""
    for window in WINDOWS:
        q, k, v, keys, values, positions, *_ = in_double(call(5, 30, window))
        start = (torch.arange(35) - (window - 1)).clamp(min=0) if window else torch.zeros(35)
        whole = [torch.cat([cache[:30], new[0]])[None] for cache, new in ((keys, k), (values, v))]
        queries = torch.cat([torch.randn(1, 30, q.shape[2], dtype=q.dtype), q], 1)
        expected = attention(queries, *whole, start.int(), 6, 2, 0.3)[:, 30:]
        found = OPERATORS["attention_cached"](q, k, v, keys, values, positions, window, 6, 2, 0.3)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_cache_without_room_is_refused(capfd):
    args = call(3, 4, 0, spare=0)
    program = export_calls({"call": {"attention_cached": args}})
    tensors = tensors_of({"attention_cached": args})
    tensors[-1] = tensors[-1] + 1  # positions
    with pytest.raises(RuntimeError):
        program.load_method("call").execute(tensors)
    assert "keys, values must be [C, kv_heads * head size]" in capfd.readouterr().err
