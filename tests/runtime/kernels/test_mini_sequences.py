"""Mini-sequences (MsT, arXiv 2407.15892): MLP and loss head work on a sequence in parts of tokens.

Parts are of about 256 tokens in whole row blocks (kernels/tiles.h), so none of these lengths is a
multiple of one. Loss and gradients are those of the sequence as a whole.
"""

import pytest
import torch

from tests.runtime.kernels.native import (
    assert_close,
    available_isas,
    execute,
    export_calls,
    library,
)
from tests.support.operators import Sizes, arguments, in_double
from tests.support.programs import outputs_of
from toolkit.ops import OPERATORS

SIZES = Sizes(t=557, d=32, f=64, vocab=80, seed=7)
# All labels of every part but the first.
IGNORED = slice(20, None)
HEADS = ("linear_cross_entropy", "linear_cross_entropy_loss")
MLPS = ("swiglu_mlp", "swiglu_mlp_backward")


def call(name: str) -> list:
    """Random arguments, with labels that leave parts without any."""
    values = dict(zip(OPERATORS[name].arguments, arguments(name, SIZES), strict=True))
    if "labels" in values:
        values["labels"] = values["labels"].clone()
        values["labels"][:, IGNORED] = -100
    return list(values.values())


CALLS = {name: {name: call(name)} for name in HEADS + MLPS}


@pytest.fixture(scope="module")
def program():
    return export_calls(CALLS)


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("name", HEADS + MLPS)
def test_parts_give_what_the_whole_gives(program, isa: str, name: str) -> None:
    assert library().select_isa(isa)
    actual = execute(program, name, CALLS[name])[name]
    expected = outputs_of(OPERATORS[name].reference(*in_double(CALLS[name][name])))
    assert_close(name, actual, expected, SIZES)
    if name == "linear_cross_entropy":
        assert torch.equal(actual[1][:, IGNORED], torch.zeros_like(actual[1][:, IGNORED]))
        assert actual[1].abs().max() > 0
