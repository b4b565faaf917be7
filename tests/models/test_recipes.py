"""Every recipe: true to the published model, consistent with its command, and exportable."""

import shlex

import pytest
import torch

from tests.support.tiny import relative_error
from toolkit.bundle.adapter import LoraSettings
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.bundle.layout import adapter_specs, parameter_shapes
from toolkit.choices import SCHEMES
from toolkit.errors import ToolkitError
from toolkit.families import FAMILIES, family_of, head_dimension
from toolkit.families.rope import plain_rope
from toolkit.quantization.layout import LAYOUTS
from toolkit.recipes import (
    find_recipe,
    get_recipe,
    load_recipe_file,
    recipe_directory,
    recipes,
)
from toolkit.sources.random import RandomSource

NAMES = sorted(recipes())
# Parameters as the model cards give them: exact where a card does, else in millions.
PARAMETERS = {
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "smollm3-3b": 3_075_098_624,
    "granite3-2b": 2_533_531_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "olmo2-1b": 1_484_916_736,
    "gemma3-270m": 268_098_176,
    "gemma3-1b": 999_885_952,
    "gemma3-4b": 3_880_263_168,  # its text part
    "phi-3-mini": 3_821_079_552,
    "phi-4-mini": 3_836_021_760,
}
WAYS = ("forward", "backward")
# Trainable parameters at rank 8 that arXiv 2510.03425 reports.
TRAINABLE = {
    "qwen2.5-0.5b": 4.39e6,
    "qwen2.5-1.5b": 9.23e6,
    "qwen2.5-3b": 14.97e6,
    "gemma3-1b": 6.52e6,
    "gemma3-4b": 14.90e6,
}


def test_every_recipe_has_a_size_from_its_model_card():
    """What the recipes are held against comes from elsewhere, for each of them."""
    assert set(NAMES) <= set(PARAMETERS)


def test_recipes_and_programs_name_the_same_things():
    assert {recipe.family for recipe in recipes().values()} == set(FAMILIES)
    assert set(SCHEMES) == set(LAYOUTS)


@pytest.mark.parametrize("name", NAMES)
def test_fields_are_those_of_the_configuration(name):
    """`transformers` takes any field; one that is spelled wrong would do nothing."""
    recipe = get_recipe(name)
    known = {
        f
        for cls in type(recipe.model_config()).__mro__
        for f in vars(cls).get("__annotations__", {})
    }
    assert set(recipe.config) - {"head_dim"} <= known
    assert recipe.config["head_dim"] == head_dimension(recipe.model_config())


@pytest.mark.parametrize("name", NAMES)
def test_size_of_the_model_and_of_its_adapter(name):
    recipe = get_recipe(name)
    shapes = parameter_shapes(recipe.model_config())
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == PARAMETERS[name]
    if name in TRAINABLE:
        lora = LoraSettings(recipe.rank, float(recipe.alpha), recipe.targets)
        specs = adapter_specs(recipe.model_config(), lora)
        count = sum(torch.Size(spec.shape).numel() for spec in specs)
        assert count == pytest.approx(TRAINABLE[name], abs=0.01e6)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_is_the_recipe(name, monkeypatch, tmp_path):
    """The command is parsed as the command line does; what it would export is the recipe."""
    from typer.testing import CliRunner

    from toolkit.cli.main import app

    recipe = get_recipe(name)
    program, *arguments = shlex.split(recipe.command)
    assert program == "toolkit"
    seen = {}

    def capture(source, output, settings, progress):
        seen.update(source=source, output=str(output), settings=settings)
        raise ToolkitError("captured")

    monkeypatch.setattr("toolkit.bundle.export.export_bundle", capture)
    monkeypatch.setattr("toolkit.sources.open_source", lambda model: model)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and "captured" in result.stderr, result.output
    assert seen["source"] == recipe.hub_id
    assert seen["output"] == recipe.name
    assert seen["settings"] == ExportSettings(
        lora=LoraSettings(recipe.rank, float(recipe.alpha), recipe.targets),
        seq_lens=recipe.seq_lens,
        lowering=recipe.lowering,
        quantization=recipe.quantization,
        embedding_quantization=recipe.embedding_quantization,
        seed=0,
        adapter=None,
    )


def tiny(recipe):
    """The recipe's configuration with small sizes; family, ratios, ties and rotary type stay."""
    config = recipe.config
    groups = config["num_attention_heads"] // config["num_key_value_heads"]
    heads = 2 * groups
    rotary = dict(config["rope_parameters"])
    turned = int(16 * rotary.get("partial_rotary_factor", 1))
    lists = {"short_factor", "long_factor"} & set(rotary)
    rotary |= {name: rotary[name][:turned] for name in lists}
    return recipe.model_config(
        hidden_size=32 * heads,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=150,
        rope_parameters=rotary,
        pad_token_id=None,
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_exports(name, tmp_path):
    recipe = get_recipe(name)
    config = tiny(recipe)
    source = RandomSource(config, parameter_shapes(config), name, seed=1)
    settings = ExportSettings(
        lora=LoraSettings(recipe.rank, float(recipe.alpha), recipe.targets),
        seq_lens=(8,),
        lowering=recipe.lowering,
        quantization=recipe.quantization,
        embedding_quantization=recipe.embedding_quantization,
    )
    manifest = export_bundle(source, tmp_path / "bundle", settings)
    blocks = [f"{k.name}_{way}" for k in family_of(config).block_kinds(config) for way in WAYS]
    steps = [f"{k.name}_step" for k in family_of(config).block_kinds(config)]
    expected = {"embed", *blocks, "head_loss", "head_backward", "embed_step", *steps, "head_logits"}
    assert {method.rsplit("_t", 1)[0] for method in manifest["methods"]} == expected
    bundle = Bundle.open(tmp_path / "bundle")
    bundle.check_hashes()
    for key, rope in family_of(config).ropes(config).items():
        assert torch.equal(bundle.base.tensor(f"{key}.inv_freq"), rope.inv_freq)
    reference = bundle.reference_model()
    tokens = torch.arange(12).reshape(1, 12)
    noise = 0.0
    with torch.no_grad():
        quantized = reference(tokens).logits
        for key, parameter in reference.named_parameters():
            noise += relative_error(parameter, source.read(key)) ** 2
            parameter.copy_(source.read(key))
        exact = reference(tokens).logits
    # The weights' rounding errors are independent, so that they add up as squares: to 0.27 for 15
    # matrices in int4. Residuals only make it less; a wrong binding would give about 1.4.
    assert 0 < relative_error(quantized, exact) < noise**0.5


def test_llama3_rotary_scaling_is_in_the_frequencies():
    scaled = plain_rope(get_recipe("llama-3.2-1b").model_config()).inv_freq
    plain = 500000.0 ** (-torch.arange(0, 64, 2).double() / 64)
    ratio = plain / scaled.double()
    assert ratio[0] == pytest.approx(1) and ratio[-1] == pytest.approx(32)
    assert 1 < ratio[14:18].max() < 32


def test_recipes_are_found_by_name_and_hub_id():
    assert find_recipe("Qwen2.5-0.5B").hub_id == "Qwen/Qwen2.5-0.5B-Instruct"
    assert find_recipe("qwen/qwen2.5-0.5b-instruct").name == "qwen2.5-0.5b"
    assert find_recipe("gpt2") is None
    with pytest.raises(ToolkitError, match=r"no recipe 'gpt2'.*qwen2\.5-0\.5b"):
        get_recipe("gpt2")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("family: llama", "famly: llama", "missing fields .'family'.*unknown fields .'famly'"),
        ("name: smollm2-135m", "name: other", "name must be smollm2-135m"),
        ("quantization: int4\n", "quantization: int3\n", "quantization must be"),
        ("lowering: mesp", "lowering: mezo", "lowering must be"),
        ("rank: 8", "rank: 0", "must be positive"),
        ("seq_lens: [256]", "seq_lens: []", "must be positive"),
        ("[q_proj,", "[x_proj,", "targets must be"),
        ("head_dim: 64", "head_dim: many", "whole numbers"),
        ("  head_dim: 64\n", "", "config needs hidden_size"),
        ("config:", "config: [", "cannot be read"),
    ],
)
def test_wrong_recipes_are_refused(tmp_path, old, new, message):
    text = (recipe_directory() / "smollm2-135m.yaml").read_text()
    assert old in text
    path = tmp_path / "smollm2-135m.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ToolkitError, match=message):
        load_recipe_file(path)
