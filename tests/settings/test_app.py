"""The app's own list of settings, in Kotlin, against the declaration."""

import re
from pathlib import Path

import pytest

from toolkit.device.app import settings_of_app
from toolkit.errors import ToolkitError
from toolkit.settings.training import FLAGS, SETTINGS, TrainSettings

MAIN = Path(__file__).parents[2] / "android_app/app/src/main/kotlin/dev/toolkit/trainer"
STORE = (MAIN / "store/RunSettings.kt").read_text()
ENTRY = (MAIN / "service/Automation.kt").read_text()

OWN = {"max-grad-norm", "eval-every", "patience", "keep", "keep-checkpoints"}
"""What the app chooses by its presets and takes from no computer."""


def words(name: str) -> list[str]:
    """Return what one of the lists in the app holds."""
    [items] = re.findall(rf"val {name} = listOf\(([^)]*)\)", STORE)
    return re.findall(r'"([^"]+)"', items)


def test_the_app_has_the_settings_that_the_declaration_says():
    ours = {known.flag for known in SETTINGS if known.app}
    body = ENTRY[ENTRY.index("private fun settings(") :]
    body = body[: body.index(".check()")]
    asked = set(re.findall(r'(?:number|text)\(intent, "([a-z-]+)"', body))
    assert asked == ours
    kept = set(re.findall(r'"([a-z-]+)" to ', STORE)) | {"threads"}
    assert kept == ours | OWN
    assert not ours & OWN


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("schedule", "SCHEDULES"),
        ("order", "ORDERS"),
        ("arithmetic", "ARITHMETICS"),
        ("trace", "TRACES"),
        ("optimizer", "OPTIMIZERS"),
    ],
)
def test_the_apps_choices_are_ours(flag, name):
    assert set(words(name)) == set(FLAGS[flag].choices)


def test_the_apps_defaults_are_ours():
    [fields] = re.findall(r"data class RunSettings\((.*?)\n\) \{", STORE, re.DOTALL)
    theirs = dict(re.findall(r"val (\w+): \w+ = ([^,\n]+),", fields))
    names = {
        "learningRate": "lr",
        "gradientAccumulation": "grad-accum",
        "warmupSteps": "warmup-steps",
        "maxGradNorm": "max-grad-norm",
        "evalEvery": "eval-every",
        "keepCheckpoints": "keep-checkpoints",
    }
    assert {"learningRate", "optimizer", "schedule", "seed", "order", "threads"} < theirs.keys()
    for name, default in theirs.items():
        if not default.startswith("if "):  # the trace's detail goes by the run's length there
            ours = FLAGS[names.get(name, name.replace("Steps", "-steps"))]
            # What the trainer decides is left to it: 0 is passed over.
            expected = 0 if ours.default is None else ours.default
            assert ours.value_of(default.strip('"')) == expected, name


def test_a_run_of_the_app_takes_a_whole_config_that_leaves_the_rest_alone():
    whole = TrainSettings(steps=5, optimizer="lion").effective().flags()
    assert {"checkpoints", "beta2", "max-grad-norm"} < whole.keys()
    assert settings_of_app(whole).keys() == whole.keys() & {k.flag for k in SETTINGS if k.app}
    with pytest.raises(ToolkitError, match="the app has no --beta2, --max-grad-norm"):
        settings_of_app(whole | {"beta2": 0.5, "max-grad-norm": 1.0})
    held_out = {"eval-every": 5, "patience": 3, "keep": "best", "keep-checkpoints": 2}
    with pytest.raises(ToolkitError) as error:
        settings_of_app(whole | held_out)
    named = error.value.cause.removeprefix("the app has no ").split(", ")
    assert set(named) == {f"--{flag}" for flag in held_out}
