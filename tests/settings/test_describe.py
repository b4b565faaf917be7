"""The declarations of Python against the engine's own description of itself."""

import json
import subprocess
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from tests.runtime.running import run, trainer
from toolkit.cli.train import train
from toolkit.device.training import DEFAULTS
from toolkit.oracle.training import TrainSettings
from toolkit.settings.methods import METHODS
from toolkit.settings.optimizers import OPTIMIZERS

SHAPES = [(8, 896), (4864, 8), (3, 5), (1, 1)]
# Which files a run works on is said in other words on the host, and the evaluation's data with it.
FILES = {"bundle", "data", "out", "adapter", "eval-data", "max-samples"}


def describe(**options: Any) -> dict[str, Any]:
    return json.loads(run("describe", json=True, **options).stdout)


@pytest.fixture(scope="module")
def train_options() -> dict[str, dict[str, Any]]:
    rows = {row["name"]: row for row in describe()["options"] if "train" in row["commands"]}
    return {name: row for name, row in rows.items() if name not in FILES}


def choices_of(flag: str) -> set[str]:
    """Return the words that a flag of `toolkit train` takes, none where it is no choice."""
    hint = get_type_hints(train)[flag.replace("-", "_")]
    literals = [part for part in get_args(hint) or [hint] if get_origin(part) is Literal]
    return {choice for literal in literals for choice in get_args(literal)}


def test_every_option_of_the_trainer_is_a_flag_with_its_default(train_options):
    without_default = {"steps", "resume", "eval-every"}
    assert set(train_options) == {*DEFAULTS, *without_default}
    for name, default in DEFAULTS.items():
        theirs = train_options[name]["default"]
        assert type(theirs)(default) == theirs, name
    flags = {name.replace("_", "-") for name in get_type_hints(train)}
    assert set(train_options) <= flags


def test_choices_are_the_trainers(train_options):
    for name, row in train_options.items():
        # A run that leaves no trace could not be watched.
        theirs = set(row.get("choices", [])) - ({"off"} if name == "trace" else set())
        assert choices_of(name) == theirs, name


def test_types_limits_and_units_are_told(train_options):
    assert train_options["resume"]["type"] == "switch"
    assert train_options["save-minutes"]["unit"] == "minutes"
    steps, rate = train_options["steps"], train_options["lr"]
    assert (steps["type"], steps["default"], steps["minimum"]) == ("whole", None, 1)
    assert steps["required_by"] == ["train"] and rate["required_by"] == []
    assert (rate["type"], rate["default"], rate["maximum"]) == ("number", 1e-4, 1000)
    assert all(row["help"] for row in train_options.values())


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_optimizers_remember_what_python_says(momentum):
    shapes = ",".join(f"{rows}x{columns}" for rows, columns in SHAPES)
    theirs = {row["name"]: row for row in describe(shape=shapes, momentum=momentum)["optimizers"]}
    assert list(theirs) == list(OPTIMIZERS)
    settings = TrainSettings(1, momentum=momentum)
    for name, ours in OPTIMIZERS.items():
        assert theirs[name]["options"] == dict(ours.options)
        expected = [
            {
                "shape": [rows, columns],
                "states": [
                    {"name": s.name, "type": s.type, "count": s.count, "bytes": s.bytes}
                    for s in ours.states(rows, columns, settings)
                ],
            }
            for rows, columns in SHAPES
        ]
        assert theirs[name]["states"] == expected


def test_methods_are_those_python_knows():
    [exact] = describe()["methods"]
    assert {exact["name"]: exact["help"]} == METHODS
    assert exact["backward"] and exact["checkpoints"] and exact["gradients"]


def test_instruction_sets_begin_with_the_one_in_use():
    info = json.loads(run("info").stdout)
    facts = describe()
    assert facts["instruction_sets"][0] == info["isa"] and "plain" in facts["instruction_sets"]
    assert facts["version"] == info["version"] and facts["arithmetic"] == ["float32"]


@pytest.mark.parametrize(
    "shape",
    ["", "8", "8x", "x8", "8x0", "-1x8", "8x8x8", "8x8,", "8x9e9", "2147483647x2147483647"],
)
def test_wrong_shapes_are_refused(shape):
    words = [trainer(), "describe", "--json", f"--shape={shape}"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "--shape" in result.stderr, result.stdout


def test_people_read_names_and_formulas():
    lines = run("describe").stdout.splitlines()
    for name in (*METHODS, *OPTIMIZERS):
        assert any(line.split()[0] == name for line in lines), name
    words = [trainer(), "describe", "--shape", "8x8"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "--shape needs --json" in result.stderr
