"""Subsets of layers, read and written."""

import pytest

from toolkit.errors import ToolkitError
from toolkit.layers import layers_text, parse_layers


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("", range(24)),
        ("16-23", range(16, 24)),
        ("last:8", range(16, 24)),
        ("last:24", range(24)),
        ("0", [0]),
        ("8-11,0,4,9", [0, 4, 8, 9, 10, 11]),
        (" 0, 4 - 5 ", [0, 4, 5]),
    ],
)
def test_layers_are_read(text, layers):
    assert parse_layers(text, 24) == tuple(layers)
    assert parse_layers(layers_text(layers), 24) == tuple(layers)


def test_layers_are_written_as_ranges():
    assert layers_text([11, 0, 4, 8, 10, 9]) == "0,4,8-11"
    assert layers_text([]) == ""


@pytest.mark.parametrize(
    "text", ["16-", "-3", "a", "last:", "1,,2", "1, ,2", "1 2", "1\t", "3-1", "1.5", "last:-1"]
)
def test_what_is_no_subset(text):
    with pytest.raises(ToolkitError, match="cannot be read"):
        parse_layers(text, 24)


@pytest.mark.parametrize("text", ["24", "0-24", "last:25", "last:0"])
def test_layers_that_are_not_there(text):
    with pytest.raises(ToolkitError, match="not all there: the model has 24"):
        parse_layers(text, 24)
