"""The declarations of Python against the engine's own description of itself."""

import json
import subprocess
from typing import Any, get_args, get_type_hints

import pytest

from tests.runtime.running import run, trainer
from toolkit.choices import ARITHMETICS
from toolkit.cli.train import train
from toolkit.settings.declaration import Setting
from toolkit.settings.methods import METHOD_OPTIONS, METHODS
from toolkit.settings.optimizers import OPTIMIZERS, OPTIONS
from toolkit.settings.training import FLAGS, SETTINGS, TrainSettings

SHAPES = [(8, 896), (4864, 8), (3, 5), (1, 1)]
# Which files a run works on is said in other words on the host; what is asked of one session, as to
# resume, is no setting.
FILES = {"bundle", "data", "out", "adapter", "eval-data", "resume"}
FILES |= {"take-adapter", "take-at", "until"}


def describe(**options: Any) -> dict[str, Any]:
    return json.loads(run("describe", json=True, **options).stdout)


@pytest.fixture(scope="module")
def train_options() -> dict[str, dict[str, Any]]:
    rows = {row["name"]: row for row in describe()["options"] if "train" in row["commands"]}
    return {name: row for name, row in rows.items() if name not in FILES}


def declared() -> dict[str, Setting]:
    return {known.flag: known for known in SETTINGS if known.source == "trainer"}


def test_every_option_of_the_trainer_is_declared(train_options):
    assert set(train_options) == set(declared())


def test_types_units_limits_and_choices_are_the_trainers(train_options):
    names = {str: ("text", "choice"), int: ("whole",), float: ("number",)}
    for flag, known in declared().items():
        row = train_options[flag]
        assert row["type"] in names[known.type], flag
        assert row["unit"] == known.unit, flag
        # A run that leaves no trace could not be watched.
        theirs = set(row.get("choices", [])) - ({"off"} if flag == "trace" else set())
        assert set(known.choices) == theirs, flag
        if known.type is not str:
            assert (row["minimum"], row["maximum"]) == (known.minimum, known.maximum), flag


def test_defaults_are_the_trainers(train_options):
    """Of those that optimizers have of their own, see below; steps have none."""
    left_to_the_trainer = {"save-every": 50, "eval-every": 0, "layers": ""}
    for flag, known in declared().items():
        if flag in OPTIONS or (flag in METHOD_OPTIONS and known.default is None):
            assert known.default is None
            assert known.default_text.split(",")[0] == f"{train_options[flag]['default']:g}"
        else:
            default = left_to_the_trainer.get(flag, known.default)
            assert train_options[flag]["default"] == default, flag
    assert f"{left_to_the_trainer['save-every']}" == FLAGS["save-every"].shown


def test_flags_of_train_are_the_declaration_and_nothing_else():
    own = {"config", "save_to", "resume", "attach_to", "detach", "app", "atrace", "as_json"}
    own |= {"take_adapter", "take_at", "until", "computer_bundle"}
    assert set(get_type_hints(train)) - {"return"} == own | {known.name for known in FLAGS.values()}
    hints = get_type_hints(train)
    for known in FLAGS.values():
        literal = next(part for part in get_args(hints[known.name]) if part is not type(None))
        assert set(get_args(literal)) == set(known.choices), known.name


def test_types_limits_and_units_are_told(train_options):
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
    settings = TrainSettings(optimizer="sgd", momentum=momentum)
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
    theirs = {row["name"]: row for row in describe()["methods"]}
    assert list(theirs) == list(METHODS)
    for name, ours in METHODS.items():
        row = theirs[name]
        assert (row["help"], row["options"]) == (ours.help, dict(ours.options)), name
        assert row["backward"] == row["checkpoints"] == row["gradients"] == ours.backward, name
        assert row["updates"] == ours.updates, name


def test_instruction_sets_begin_with_the_one_in_use():
    info = json.loads(run("info").stdout)
    facts = describe()
    assert facts["instruction_sets"][0] == info["isa"] and "plain" in facts["instruction_sets"]
    assert facts["version"] == info["version"] and facts["arithmetic"] == list(ARITHMETICS)


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
