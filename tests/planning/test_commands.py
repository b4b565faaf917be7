"""The commands that `toolkit plan` prints are run as they are printed, on this machine."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.bundles import export_tiny
from tests.support.chatml import QWEN2, make_tokenizer
from tests.support.models import save_model, tiny_model, write_gguf
from tests.support.tiny import tiny_config
from toolkit.bundle.manifest import read_manifest
from toolkit.cli.main import app
from toolkit.lora import PROJECTIONS, LoraSettings
from toolkit.planning.commands import TEXT
from toolkit.recipes import Recipe, recipe_directory
from toolkit.trace.units import megabytes

LENGTH = 64


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the text that the commands name."""
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello there"}]
    (tmp_path / TEXT).write_text((json.dumps({"messages": turns}) + "\n") * 30)
    return tmp_path


def run(command: list[str]) -> str:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, (command, result.output)
    return result.stdout


def carry_out(*words: object) -> dict:
    """Plan, run what is printed, with fewer steps, and return the manifest of the bundle."""
    plan = run(["plan", *map(str, words), "--seq-len", str(LENGTH), "--rank", "2", "--json"])
    commands = [shlex.split(line) for line in json.loads(plan)["commands"]]
    assert [program for program, *_ in commands] == ["toolkit"] * len(commands)
    assert [verb for _, verb, *_ in commands] == ["export", "data", "deploy", "train"]
    for _, *arguments in commands:
        if arguments[0] == "train":
            arguments[arguments.index("--steps") + 1] = "2"
        run(arguments)
    state = run(["pull", "run1", "-o", "pulled", "--json"])
    assert json.loads(state)
    assert Path("pulled/adapter_model.safetensors").is_file()
    return read_manifest(Path(commands[0][commands[0].index("-o") + 1]))


def save_directory(folder: Path, family: str = "qwen2") -> Path:
    config = tiny_config(family)
    config.vocab_size = 448
    save_model(folder, family, config=config)
    make_tokenizer(QWEN2).save_pretrained(folder)
    return folder


def test_a_directory(place: Path) -> None:
    manifest = carry_out(save_directory(place / "my model"))
    assert manifest["model"]["origin"] == str(place / "my model")
    assert manifest["seq_lens"] == [LENGTH]
    assert (manifest["lora"]["rank"], manifest["lora"]["alpha"]) == (2, 4.0)


@pytest.mark.slow
@pytest.mark.parametrize("by_path", [False, True], ids=["name", "path"])
def test_a_recipe(place: Path, monkeypatch: pytest.MonkeyPatch, by_path: bool) -> None:
    """The model's weights come from a directory that stands for the hub's."""
    asked = []

    def download(model: str, revision: str = "") -> tuple[Path, str]:
        asked.append(model)
        return save_directory(place / "downloaded"), "0" * 40

    monkeypatch.setattr("toolkit.sources.hub.download", download)
    recipe = recipe_directory() / "qwen2.5-0.5b.yaml"
    manifest = carry_out(recipe if by_path else recipe.stem)
    assert asked == ["Qwen/Qwen2.5-0.5B-Instruct"] == [manifest["model"]["origin"]]


@pytest.mark.slow
def test_a_gguf_file(place: Path) -> None:
    config = tiny_config("llama")
    config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    config.vocab_size = 400
    model = tiny_model("llama", config=config)
    write_gguf(place / "tiny.gguf", model, tokenizer=make_tokenizer(QWEN2))
    manifest = carry_out("tiny.gguf")
    assert manifest["model"]["origin"] == str(place / "tiny.gguf")
    assert all(entry["taken_over"] for entry in manifest["quantization"]["tensors"])


@pytest.mark.slow
def test_a_bundle_that_has_to_be_made_again(place: Path) -> None:
    run(["export", str(save_directory(place / "model")), "-o", "first", "--seq-len", "32"])
    manifest = carry_out("first")
    assert manifest["model"]["origin"] == str(place / "model")


@pytest.mark.slow
def test_a_bundle_of_random_weights(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tiny_config("qwen2")
    monkeypatch.setattr(Recipe, "model_config", lambda self: small)
    words = ["--random-weights", "qwen2.5-0.5b", "--seed", "3", "-o", "first", "--seq-len", "32"]
    run(["export", *words])
    manifest = carry_out("first")
    assert manifest["model"]["random_weights"] and "seed 3" in manifest["model"]["origin"]


def test_a_bundle_that_will_do_is_not_made_again(place: Path) -> None:
    export_tiny(place / "bundle", "llama", seq_lens=(24,))
    plan = json.loads(run(["plan", "bundle", "--json"]))
    data, deploy, train = plan["commands"]
    assert data.startswith("toolkit data --random 64 --bundle bundle --seq-len 24 -o bundle-data")
    assert deploy == "toolkit deploy bundle --data bundle-data"
    assert train.startswith("toolkit train --steps 100")
    kept = json.loads(run(["plan", "bundle", "--keep-checkpoints", "3", "--json"]))
    assert kept["commands"][-1] == train.replace(" --out", " --keep-checkpoints 3 --out")
    adapter = 4 * plan["adapter_parameters"]
    assert (plan["saved_bytes"], kept["saved_bytes"]) == (4 * adapter, 5 * adapter)
    said = " ".join(run(["plan", "bundle", "--keep-checkpoints", "3"]).split())
    assert f"A save writes {megabytes(kept['saved_bytes'])}" in said


def test_a_bundle_is_known_by_its_modules_however_they_are_named(place: Path) -> None:
    ranks = (("k_proj", 1), ("q_proj", 4))
    lora = LoraSettings(2, 4.0, PROJECTIONS, rank_pattern=ranks, layers="1")
    export_tiny(place / "bundle", "llama", seq_lens=(24,), lora=lora)

    def planned(*words: str) -> list[str]:
        return list(json.loads(run(["plan", "bundle", *words, "--json"]))["commands"])

    for same in (["--layers", "last:1"], ["--targets", "all-linear", "--layers", "1-1"]):
        assert planned(*same) == planned()
    assert "--layers 0" in planned("--layers", "0")[0]
    export = planned("--targets", "q_proj,v_proj")[0]  # without the rank of what is left out
    assert "--targets q_proj,v_proj" in export and "--rank-pattern q_proj=4" in export
    assert "k_proj" not in export


def test_a_model_that_is_gone_is_left_to_the_user(place: Path) -> None:
    """A bundle of weights that no recipe and no path leads to: MODEL is to be filled in."""
    export_tiny(place / "bundle", "llama", seq_lens=(24,))
    plan = json.loads(run(["plan", "bundle", "--seq-len", "32", "--json"]))
    assert plan["commands"][0].startswith("toolkit export MODEL -o tiny-llama-mesp-32 ")
