"""What the app calls weights and families in a GGUF file is what the gguf package calls them."""

import re
from pathlib import Path

import pytest

from tests.support.tiny import tiny_config
from toolkit.families import FAMILIES
from toolkit.sources.gguf_names import stored_names

SOURCE = Path(__file__).parents[2] / (
    "android_app/app/src/main/kotlin/dev/toolkit/trainer/store/GgufFile.kt"
)


def table(name):
    """Return the pairs or words of a table in the app's source."""
    text = re.search(rf"val {name} = \w+\((.*?)\n? *\)", SOURCE.read_text(), re.DOTALL)[1]
    pairs = re.findall(r'"(\w+)" to "(\w+)"', text)
    return dict(pairs) if pairs else set(re.findall(r'"(\w+)"', text))


def test_the_app_knows_every_family():
    assert table("ARCHITECTURES") == {name: f.gguf_architecture for name, f in FAMILIES.items()}
    assert table("PAIRED") == {name for name, f in FAMILIES.items() if f.gguf.pairs_rotated}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_app_knows_every_projection(family):
    names = table("NAMES")
    found = {
        name.split(".")[-2]: stored.removeprefix("blk.0.").removesuffix(".weight")
        for name, stored in stored_names(tiny_config(family)).items()
        if ".layers.0." in name and name.endswith("_proj.weight")
    }
    assert len(found) >= 4
    assert found.items() <= names.items()
