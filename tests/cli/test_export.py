"""`toolkit export` as a user runs it."""

import json
import re
import zipfile

import pytest
import torch
from typer.testing import CliRunner

from tests.support.models import save_model
from tests.support.tiny import tiny_config
from toolkit.bundle.bundle import Bundle
from toolkit.cli.main import app
from toolkit.errors import ToolkitError
from toolkit.lora import PROJECTIONS
from toolkit.recipes import Recipe, get_recipe, recipe_directory


def run(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny-llama"
    save_model(folder, "llama")
    return folder


def test_a_directory_with_every_option(model, tmp_path):
    result = run(
        model,
        *("-o", tmp_path / "bundle", "--seq-len", 8, "--seq-len", 12, "--rank", 2),
        *("--alpha", 4, "--targets", "v_proj, q_proj", "--lowering", "mebp"),
        *("--quantization", "int8", "--embedding-quantization", "int4-symmetric", "--seed", 5),
        *("--json", "--zip"),
    )
    assert result.exit_code == 0, result.output
    manifest = json.loads(result.stdout)
    assert manifest == Bundle.open(tmp_path / "bundle").manifest
    assert_archived(tmp_path / "bundle", tmp_path / "bundle.zip")
    assert manifest["model"]["name"] == "tiny-llama"
    assert (manifest["seq_lens"], manifest["lowering"]) == ([8, 12], "mebp")
    assert manifest["lora"]["rank"] == 2 and manifest["lora"]["alpha"] == 4.0
    assert manifest["lora"]["targets"] == ["v_proj", "q_proj"]
    assert manifest["lora"]["start"] == "seed 5"
    assert manifest["quantization"]["linear"] == "int8"
    assert manifest["quantization"]["embedding"] == "int4-symmetric"


def assert_archived(bundle, archive):
    """The zip holds the bundle's files as they are, the manifest first, and is there alone."""
    assert sorted(path.name for path in bundle.parent.iterdir()) == [bundle.name, archive.name]
    with zipfile.ZipFile(archive) as read:
        entries = read.infolist()
        assert entries[0].filename == f"{bundle.name}/manifest.json"
        assert {entry.filename for entry in entries} == {
            f"{bundle.name}/{path.relative_to(bundle)}" for path in bundle.rglob("*")
        }
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        # Sizes stand before the content, for who reads it as a stream.
        assert not any(entry.flag_bits & 8 for entry in entries)
        assert all(read.read(e) == (bundle.parent / e.filename).read_bytes() for e in entries)


def test_random_weights_take_the_recipe(monkeypatch, tmp_path):
    """The recipe's shape is the export's; here shrunk, so that the test is quick."""
    recipe = get_recipe("qwen2.5-0.5b")
    small = recipe.model_config(num_hidden_layers=1, vocab_size=64, intermediate_size=64)
    monkeypatch.setattr(type(recipe), "model_config", lambda self: small)
    result = run("--random-weights", "qwen2.5-0.5b", "--seed", 3, "-o", tmp_path / "b")
    assert result.exit_code == 0, result.output
    assert "toolkit inspect" in result.stdout
    assert f"next: toolkit data --random 64 --bundle {tmp_path / 'b'} -o data" in result.stderr
    manifest = Bundle.open(tmp_path / "b").manifest
    assert manifest["model"]["name"] == "qwen2.5-0.5b"
    assert manifest["model"]["random_weights"] and "seed 3" in manifest["model"]["origin"]
    assert manifest["shape"]["hidden_size"] == 896
    assert manifest["seq_lens"] == [256] and manifest["lora"]["targets"] == list(PROJECTIONS)


RECIPE = {"lowering: mesp": "lowering: mebp", "quantization: int4": "quantization: int8"}
RECIPE |= {"embedding_quantization: int8": "embedding_quantization: int4-symmetric"}
RECIPE |= {"rank: 8": "rank: 3", "alpha: 16": "alpha: 9", "seq_lens: [256]": "seq_lens: [12, 8]"}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe file of a tiny model whose every setting is another than the usual."""
    text = (recipe_directory() / "smollm2-135m.yaml").read_text()
    for old, new in sorted(RECIPE.items(), key=lambda pair: -len(pair[0])):
        assert f"\n{old}\n" in text
        text = text.replace(f"\n{old}\n", f"\n{new}\n")
    text = re.sub(r"targets: \[.*\]", "targets: [o_proj, up_proj]", text)
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: smollm2-135m", "name: mine"))
    monkeypatch.setattr(Recipe, "model_config", lambda self: tiny_config("llama"))
    return path


@pytest.mark.parametrize("words", [(), ("--rank", 5), ("--lowering", "mesp", "--rank", 1)])
def test_export_and_plan_take_a_recipe_alike(recipe, tmp_path, words):
    result = run("--random-weights", recipe, "-o", tmp_path / "b", *words)
    assert result.exit_code == 0, result.output
    manifest = Bundle.open(tmp_path / "b").manifest
    planned = CliRunner().invoke(app, ["plan", str(recipe), "--json", *map(str, words)])
    settings = json.loads(planned.stdout)["settings"]
    assert settings["lowering"] == manifest["lowering"] == ("mesp" if "mesp" in words else "mebp")
    quantization = manifest["quantization"]
    assert settings["linear"] == quantization["linear"] == "int8"
    assert settings["embedding"] == quantization["embedding"] == "int4-symmetric"
    assert manifest["seq_lens"] == [8, 12] and settings["seq_len"] == 12
    lora = manifest["lora"]
    assert (settings["rank"], settings["alpha"]) == (lora["rank"], lora["alpha"])
    assert lora["alpha"] == 3 * lora["rank"]
    assert settings["targets"] == lora["targets"] == ["o_proj", "up_proj"]


def test_a_recipe_names_the_model_to_export(recipe, tmp_path, monkeypatch):
    asked = []

    def opened(model):
        asked.append(model)
        raise ToolkitError("opened")

    monkeypatch.setattr("toolkit.sources.open_source", opened)
    monkeypatch.chdir(tmp_path)
    assert "opened" in run(recipe, "-o", "b").stderr
    assert asked == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    (tmp_path / "smollm2-135m").mkdir()  # as a bundle may be called: no recipe then
    assert "opened" in run("smollm2-135m", "-o", "b").stderr
    assert asked[1:] == ["smollm2-135m"]


@pytest.mark.parametrize(
    ("words", "alpha"), [((), 16.0), (("--rank", 4), 8.0), (("--rank", 4, "--alpha", 5), 5.0)]
)
def test_alpha_follows_the_rank_unless_it_is_given(model, tmp_path, monkeypatch, words, alpha):
    seen = []

    def capture(source, output, settings, progress):
        seen.append(settings.lora.alpha)
        raise ToolkitError("captured")

    monkeypatch.setattr("toolkit.bundle.export.export_bundle", capture)
    run(model, "-o", tmp_path / "b", *words)
    assert seen == [alpha]


def test_a_bundle_is_no_model(model, tmp_path):
    made = run(model, "-o", tmp_path / "b", "--seq-len", 8, "--lowering", "approx-bp")
    assert made.exit_code == 0
    assert "Lowering: approx-bp (approximate gradients)" in made.stdout
    result = run(tmp_path / "b", "-o", tmp_path / "c")
    assert result.exit_code == 1
    assert "is a bundle, which an export has made already" in result.stderr
    assert str(model) in result.stderr


def save_adapter(folder, base, **options):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**options))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    tuned.save_pretrained(folder)


def test_an_adapter_brings_its_settings(model, tmp_path):
    save_adapter(tmp_path / "a", model, r=3, lora_alpha=5, target_modules=["o_proj", "up_proj"])
    arguments = (model, "-o", tmp_path / "b", "--seq-len", 8, "--adapter", tmp_path / "a")
    for option, value, shown in (
        ("--rank", 4, "3"),
        ("--alpha", 4, "5"),
        ("--targets", "q_proj", "o_proj,up_proj"),
        ("--rank-pattern", "up_proj=2", "has {}"),
    ):
        result = run(*arguments, option, value)
        assert result.exit_code == 1
        assert f"{option} differs from the adapter" in result.stderr and shown in result.stderr
    assert not (tmp_path / "b").exists()
    other = run(*arguments, "--layers", "last:1")
    assert "--layers differs from the adapter" in other.stderr and "has all" in other.stderr
    result = run(*arguments, "--rank", 3, "--targets", "up_proj,o_proj", "--layers", "last:2")
    assert result.exit_code == 0, result.output
    lora = Bundle.open(tmp_path / "b").manifest["lora"]
    assert (lora["rank"], lora["alpha"], lora["targets"]) == (3, 5.0, ["o_proj", "up_proj"])


def test_an_adapter_of_the_lowest_layers_keeps_to_them(model, tmp_path):
    save_adapter(tmp_path / "a", model, r=2, target_modules=r".*layers\.0\..*_proj")
    words = ("--seq-len", 8, "--targets", "all-linear", "--layers", "0-0")
    result = run(model, "-o", tmp_path / "b", "--adapter", tmp_path / "a", *words)
    assert result.exit_code == 0, result.output
    lora = Bundle.open(tmp_path / "b").manifest["lora"]
    assert (lora["layers"], lora["targets"]) == ("0", list(PROJECTIONS))


def test_lora_as_peft_has_it(model, tmp_path):
    words = ["--targets", "all-linear", "--rslora", "--rank", 2, "--seq-len", 8]
    words += ["--rank-pattern", "q_proj=4", "--rank-pattern", "gate_proj=1"]
    words += ["--alpha-pattern", "down_proj=3.5"]
    result = run(model, "-o", tmp_path / "b", *words)
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "b/adapter_config.json").read_text())
    assert config["target_modules"] == list(PROJECTIONS)
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (2, 4, True)
    assert config["rank_pattern"] == {"q_proj": 4, "gate_proj": 1}
    assert config["alpha_pattern"] == {"down_proj": 3.5}
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "b")]).stdout
    assert "rank 2, alpha 4 over the root of the rank, rank 1 on gate_proj" in shown
    again = run(model, "-o", tmp_path / "c", "--adapter", tmp_path / "b")
    assert "no adapter_model.safetensors" in again.stderr
    plan = CliRunner().invoke(app, ["plan", str(tmp_path / "b"), "--seq-len", "12", "--json"])
    [export, *_] = json.loads(plan.stdout)["commands"]
    for option in ("--rslora", "--rank-pattern q_proj=4", "--alpha-pattern down_proj=3.5"):
        assert option in export
    planned = json.loads(plan.stdout)["adapter_parameters"]
    assert planned == Bundle.open(tmp_path / "b").manifest["lora"]["parameters"]


RANDOM = ("--random-weights", "qwen2.5-0.5b", "-o", "b")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "either MODEL or --random-weights"),
        (["x", "--random-weights", "qwen2.5-0.5b", "-o", "b"], 2, "either MODEL or"),
        (["x"], 2, "with -o"),
        (["x", "-o", "b", "--lowering", "mezo"], 2, "'mezo'"),
        (["x", "-o", "b", "--seq-len", "0"], 2, "--seq-len"),
        (["x", "-o", "b"], 1, "x does not exist"),
        (["--random-weights", "gpt2", "-o", "b"], 1, "There is no recipe 'gpt2'"),
        (["models/none.yaml", "-o", "b"], 1, "There is no recipe file models/none.yaml"),
        (["--random-weights", "qwen2.5-0.5b", "-o", "b", "--targets", "lm_head"], 1, "lm_head"),
        (["--random-weights", "qwen2.5-0.5b", "-o", "b", "--seq-len", "99999"], 1, "99999"),
        (["--random-weights", "qwen2.5-0.5b", "-o", "b", "--alpha", "-1"], 1, "positive"),
        (
            ["--random-weights", "qwen2.5-0.5b", "-o", "b", "--rank-pattern", "q_proj"],
            1,
            "NAME=NUMBER",
        ),
        (["--random-weights", "qwen2.5-0.5b", "-o", "b", "--rank-pattern", "q=2"], 1, "no target"),
        (
            ["--random-weights", "qwen2.5-0.5b", "-o", "b", "--alpha-pattern", "q_proj=0"],
            1,
            "alpha 0",
        ),
    ],
)
def test_what_is_wrong_is_said(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []
