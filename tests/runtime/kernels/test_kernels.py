"""Every C++ operator against its eager reference, on every instruction set this machine has."""

import pytest
import torch

from tests.runtime.kernels.conftest import CASES, MATRIX
from tests.runtime.kernels.native import assert_close, available_isas


@pytest.fixture(scope="module", params=available_isas())
def runs(request, suite):
    """Outputs with one thread, twice, with two, and twice with four, which take work over."""
    return [suite.run(request.param, threads) for threads in (1, 1, 2, 4, 4)]


@pytest.mark.parametrize("case, name", MATRIX)
def test_matches_the_reference(runs, suite, case, name):
    expected = suite.references[case][name]
    for run in (runs[0], runs[2]):
        assert_close(name, run[case][name], expected, CASES[case])


def test_gives_the_same_bits_every_time_and_with_any_number_of_threads(runs):
    for case, name in MATRIX:
        for first, *others in zip(*(run[case][name] for run in runs), strict=True):
            same = [torch.equal(first, other) for other in others]
            assert all(same), f"{case} {name} differs in some of the other runs: {same}"
