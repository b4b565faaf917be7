"""The settings of an adapter."""

from dataclasses import replace

import pytest

from tests.bundle.test_adapter import PATTERNS
from toolkit.errors import ToolkitError
from toolkit.lora import PROJECTIONS, LoraSettings


@pytest.mark.parametrize(
    ("rank", "alpha", "targets"),
    [
        (0, 8.0, PROJECTIONS),
        (4, 0.0, PROJECTIONS),
        (4, float("nan"), PROJECTIONS),
        (4, 8.0, ()),
        (4, 8.0, ("q_proj", "q_proj")),
        (4, 8.0, ("q_proj", "all-linear")),
    ],
)
def test_settings_are_checked(rank, alpha, targets):
    with pytest.raises(ToolkitError):
        LoraSettings(rank, alpha, targets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank_pattern": (("q_proj", 0),)}, "rank 0"),
        ({"alpha_pattern": (("q_proj", -1.0),)}, "alpha -1"),
        ({"rank_pattern": (("k_proj", 2),)}, "rank pattern names k_proj"),
        ({"alpha_pattern": (("qproj", 2.0),)}, "alpha pattern names qproj"),
    ],
)
def test_patterns_are_checked(change, message):
    with pytest.raises(ToolkitError, match=message):
        replace(PATTERNS, **change)


def test_json_says_it_all():
    settings = replace(PATTERNS, layers="1-2")
    assert LoraSettings.from_json(settings.to_json()) == settings
    old = {"rank": 4, "alpha": 8.0, "targets": ["q_proj"]}
    assert LoraSettings.from_json(old) == LoraSettings(4, 8.0, ("q_proj",))
