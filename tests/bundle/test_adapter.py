"""The starting adapter against `peft` itself, in both directions."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from tests.support.chatml import QWEN2, make_tokenizer
from tests.support.models import tiny_model, write_gguf
from tests.support.tiny import tiny_config
from toolkit.bundle.adapter import (
    check_peft_weights,
    initial_adapter,
    peft_weights,
)
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.bundle.layout import adapter_specs
from toolkit.bundle.peft_config import peft_config
from toolkit.bundle.peft_files import PEFT_PREFIX, read_peft_settings
from toolkit.errors import ToolkitError
from toolkit.lora import PROJECTIONS, LoraSettings
from toolkit.sources import open_source

TARGETS = [PROJECTIONS, ("v_proj", "q_proj"), ("down_proj",)]


PATTERNS = LoraSettings(
    *(4, 6.0, ("q_proj", "down_proj"), True),
    rank_pattern=(("q_proj", 2),),
    alpha_pattern=(("down_proj", 3.5),),
)
PATTERNS_OF_PEFT = {
    "use_rslora": True,
    "rank_pattern": {"q_proj": 2},
    "alpha_pattern": {"down_proj": 3.5},
}


def ours(config, lora, seed):
    specs = adapter_specs(config, lora)
    tensors = list(initial_adapter(specs, seed))
    return {spec.name: tensor for spec, tensor in zip(specs, tensors, strict=True)}


def theirs(model):
    return {
        name.removeprefix(PEFT_PREFIX).replace(".default.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name
    }


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("targets", TARGETS)
def test_a_fresh_adapter_equals_that_of_peft(family, targets):
    model = tiny_model(family)
    got = ours(model.config, LoraSettings(4, 8.0, targets), seed=7)
    torch.manual_seed(7)
    expected = theirs(
        get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=list(targets)))
    )
    assert set(got) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name
        assert (tensor == 0).all() == ("lora_B" in name)


def test_the_global_generator_is_left_alone():
    config = tiny_model("llama").config
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    specs = adapter_specs(config, LoraSettings(4, 8.0, PROJECTIONS))
    interleaved, drawn = [], []
    for i, tensor in enumerate(initial_adapter(specs, 3)):
        interleaved.append(tensor)
        if i < 4:
            drawn.append(torch.rand(1))
    assert torch.equal(torch.cat(drawn), expected)
    assert all(
        torch.equal(a, b) for a, b in zip(interleaved, initial_adapter(specs, 3), strict=True)
    )


def test_peft_loads_our_configuration(tmp_path):
    model = tiny_model("llama")
    settings = LoraSettings(4, 8.0, PROJECTIONS)
    (tmp_path / "adapter_config.json").write_text(json.dumps(peft_config(settings, 2, "x")))
    weights = ours(model.config, settings, seed=2)
    save_file(
        {PEFT_PREFIX + name: tensor for name, tensor in weights.items()},
        tmp_path / "adapter_model.safetensors",
    )
    loaded = PeftModel.from_pretrained(model, tmp_path)
    config = loaded.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 8, 0.0)
    for name, tensor in theirs(loaded).items():
        assert torch.equal(weights[name], tensor), name


def save_adapter(folder, targets=("q_proj", "down_proj"), **options):
    torch.manual_seed(5)
    options = {"r": 4, "lora_alpha": 6, **options}
    model = get_peft_model(tiny_model("qwen2"), LoraConfig(target_modules=list(targets), **options))
    with torch.no_grad():
        for parameter in theirs(model).values():
            parameter.normal_()
    model.save_pretrained(folder)
    return model


def test_an_adapter_of_peft_is_read(tmp_path):
    model = save_adapter(tmp_path)
    settings = read_peft_settings(tmp_path)
    assert settings == LoraSettings(4, 6.0, ("q_proj", "down_proj"), layers="0-1")
    specs = adapter_specs(model.base_model.model.config, settings)
    check_peft_weights(tmp_path, specs)
    got = dict(zip([s.name for s in specs], peft_weights(tmp_path, specs), strict=True))
    expected = theirs(model)
    assert set(got) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


def test_a_fresh_adapter_with_patterns_equals_that_of_peft():
    model = tiny_model("qwen2")
    got = ours(model.config, PATTERNS, seed=7)
    torch.manual_seed(7)
    targets = list(PATTERNS.targets)
    options = LoraConfig(r=4, lora_alpha=6, target_modules=targets, **PATTERNS_OF_PEFT)
    expected = theirs(get_peft_model(model, options))
    assert set(got) == set(expected)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_all_linear_means_what_it_does_in_peft():
    model = tiny_model("qwen2")
    got = ours(model.config, LoraSettings(4, 8.0, ("all-linear",)), seed=7)
    torch.manual_seed(7)
    expected = theirs(get_peft_model(model, LoraConfig(r=4, target_modules="all-linear")))
    assert set(got) == set(expected)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def change_weights(folder, change):
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors")


FIRST = f"{PEFT_PREFIX}layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(FIRST), r"has no .*layers\.0\.self_attn\.q_proj\.lora_A"),
        (lambda w: w.update({FIRST: torch.zeros(4, 32)}), r"shape \[4, 32\].*needs \[4, 64\]"),
        (
            lambda w: w.update({FIRST.replace("layers.0", "layers.7"): torch.zeros(4, 64)}),
            "no place",
        ),
    ],
)
def test_adapters_of_another_model_are_refused(tmp_path, change, message):
    model = save_adapter(tmp_path)
    change_weights(tmp_path, change)
    lora = LoraSettings(4, 6.0, ("q_proj", "down_proj"))
    specs = adapter_specs(model.base_model.model.config, lora)
    with pytest.raises(ToolkitError, match=message):
        check_peft_weights(tmp_path, specs)


def test_an_adapter_that_is_not_finite_is_refused_by_its_tensor(tmp_path):
    model = save_adapter(tmp_path)
    change_weights(tmp_path, lambda weights: weights[FIRST].view(-1)[5].fill_(torch.nan))
    lora = LoraSettings(4, 6.0, ("q_proj", "down_proj"))
    specs = adapter_specs(model.base_model.model.config, lora)
    with pytest.raises(
        ToolkitError, match=r"layers\.0\.self_attn\.q_proj\.lora_A\.weight in .*nan"
    ):
        list(peft_weights(tmp_path, specs))


def test_adapters_outside_the_layers_are_refused(tmp_path):
    save_adapter(tmp_path, targets=("q_proj", "embed_tokens"))
    with pytest.raises(ToolkitError):
        settings = read_peft_settings(tmp_path)
        check_peft_weights(tmp_path, adapter_specs(tiny_model("qwen2").config, settings))


def test_values_that_are_not_finite_are_named(tmp_path):
    specs = adapter_specs(tiny_model("llama").config, LoraSettings(2, 4.0, ("q_proj",)))
    tensors = {PEFT_PREFIX + spec.name: torch.ones(spec.shape) for spec in specs}
    tensors[PEFT_PREFIX + specs[3].name][1, 0] = float("nan")
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ToolkitError, match=rf"^{specs[3].name} in .* not finite .*nan"):
        list(peft_weights(tmp_path, specs))


@pytest.mark.parametrize("kind", ["directory", "gguf"])
def test_the_adapter_says_where_its_model_is(tmp_path, monkeypatch, kind):
    """AutoPeftModel finds the model of a local export by itself, from any working directory."""
    from peft import AutoPeftModelForCausalLM

    config = tiny_config("qwen2")
    config.vocab_size = 400
    model = tiny_model("qwen2", config=config)
    options = {}
    if kind == "directory":
        path = tmp_path / "model"
        model.save_pretrained(path)
    else:
        path = tmp_path / "tiny.gguf"
        write_gguf(path, model, "F32", "F32", tokenizer=make_tokenizer(QWEN2))
        options = {"gguf_file": path.name}
    monkeypatch.chdir(tmp_path)
    settings = ExportSettings(LoraSettings(2, 4.0, PROJECTIONS), (8,))
    export_bundle(open_source(path.name), tmp_path / "bundle", settings)
    run = tmp_path / "run"
    get_peft_model(model, LoraConfig(r=2, target_modules=list(PROJECTIONS))).save_pretrained(run)
    content = (tmp_path / "bundle/adapter_config.json").read_text()
    (run / "adapter_config.json").write_text(content)
    monkeypatch.chdir("/")
    tuned = AutoPeftModelForCausalLM.from_pretrained(run, **options)
    assert tuned.peft_config["default"].r == 2
    tokens = torch.arange(12).reshape(1, 12)
    expected = tiny_model("qwen2", config=config)(tokens).logits
    # B is zero, so the logits are the model's, up to the order of sums.
    assert torch.allclose(tuned(tokens).logits, expected, atol=1e-5)
