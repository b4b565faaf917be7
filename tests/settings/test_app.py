"""The choices of the Android app against the declarations of Python."""

import re
from pathlib import Path

from toolkit.settings.optimizers import OPTIMIZERS

SETTINGS = Path(__file__).parents[2] / (
    "android_app/app/src/main/kotlin/dev/toolkit/trainer/store/RunStore.kt"
)


def test_the_app_offers_every_optimizer():
    [names] = re.findall(r"val OPTIMIZERS = listOf\((.*)\)", SETTINGS.read_text())
    assert set(re.findall(r'"(\w+)"', names)) == set(OPTIMIZERS)
