"""The text part of models that also see, trained and then loaded by `peft` on the whole model."""

import json

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import CliRunner

from tests.oracle.rows import mixed_rows
from tests.oracle.test_engine import Case
from tests.support.tiny import tiny_config
from tests.support.trainer import run_trainer
from toolkit.bundle.adapter import check_peft_weights, write_peft_adapter
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.bundle.layout import adapter_specs
from toolkit.bundle.peft_files import read_peft_settings
from toolkit.cli.export import left_out_line
from toolkit.cli.main import app
from toolkit.errors import ToolkitError
from toolkit.exchange.base import find_base, find_config
from toolkit.exchange.gguf_adapter import write_gguf_adapter
from toolkit.lora import ALL_LINEAR, PROJECTIONS, LoraSettings
from toolkit.oracle.batch import labelled, loss_sum
from toolkit.planning.model import load_config
from toolkit.sources import open_source

VISION = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
_OLD_HEAD = "model.language_model.lm_head.weight"
IMAGE = 149  # a token that no row has
WHOLE = {
    "gemma3": ("gemma3_text", "siglip_vision_model", {"mm_tokens_per_image": 4}),
    "llava": ("qwen2", "clip_vision_model", {"vision_feature_layer": -1}),
}


def whole_model(kind):
    """A tiny model with a vision tower whose layers have projections of the same names."""
    text, vision, fields = WHOLE[kind]
    config = AutoConfig.for_model(
        kind,
        text_config=tiny_config(text, layers=2).to_dict(),
        vision_config={"model_type": vision, **VISION},
        image_token_index=IMAGE,
        tie_word_embeddings=True,
        **fields,
    )
    config.text_config.initializer_range = 0.2
    name = {"gemma3": "Gemma3ForConditionalGeneration", "llava": "LlavaForConditionalGeneration"}
    torch.manual_seed(5)
    model = getattr(transformers, name[kind])._from_config(config, attn_implementation="eager")
    model.config.architectures = [name[kind]]
    return model.eval()


def old_names(model, folder):
    """Save as checkpoints before transformers 4.52 have it, among them Google's."""
    model.save_pretrained(folder)
    names = {
        "model.language_model.": "language_model.model.", "model.vision_tower.": "vision_tower.",
        "model.multi_modal_projector.": "multi_modal_projector.",
    }  # fmt: skip
    tensors = {}
    for name, tensor in model.state_dict().items():
        for new, old in names.items():
            name = name.replace(new, old) if name.startswith(new) else name
        if name != "lm_head.weight":
            tensors[name] = tensor.clone()
    save_file(tensors, folder / "model.safetensors")


def new_names(model, folder):
    """Save with the names of the model's own modules."""
    model.save_pretrained(folder)
    tensors = {n: t.clone() for n, t in model.state_dict().items() if n != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture(params=[(kind, save) for kind in WHOLE for save in (old_names, new_names)])
def saved(request, tmp_path):
    kind, save = request.param
    model = whole_model(kind)
    save(model, tmp_path / "model")
    return kind, model, tmp_path / "model"


def test_the_text_part_is_taken_and_the_rest_named(saved):
    kind, model, folder = saved
    source = open_source(str(folder))
    text = model.get_submodule("model.language_model")
    assert source.config.model_type == WHOLE[kind][0] and source.config.tie_word_embeddings
    for name, value in text.named_parameters():
        assert torch.equal(source.read(f"model.{name}"), value), name
    assert set(source.names()) == {f"model.{name}" for name, _ in text.named_parameters()}
    assert source.text_module == "model.language_model"
    counts = {
        part: sum(p.numel() for p in model.get_submodule(f"model.{part}").parameters())
        for part in ("vision_tower", "multi_modal_projector")
    }
    assert {n.rpartition(".")[2]: c for n, c in source.left_out.items()} == counts
    assert load_config(folder).to_dict() == source.config.to_dict()


@pytest.mark.parametrize("chosen", ["", "1"], ids=["all-layers", "one-layer"])
def test_what_was_trained_works_in_the_whole_model(tmp_path, chosen):
    model = whole_model("gemma3")
    old_names(model, tmp_path / "model")
    lora = LoraSettings(4, 8.0, PROJECTIONS, layers=chosen)
    source = open_source(str(tmp_path / "model"))
    manifest = export_bundle(source, tmp_path / "bundle", ExportSettings(lora, (24,)))
    assert "multi_modal_projector (0.0 M values), vision_tower (0" in left_out_line(manifest)
    bundle = Bundle.open(tmp_path / "bundle")
    case = Case(tmp_path / "bundle", tmp_path, mixed_rows(24, IMAGE))
    run = tmp_path / "run"
    flags = ["--steps", 6, "--lr", 0.05, "--threads", 1]
    run_trainer("train", *case.arguments(), "--out", run, *flags)

    parameters = dict(model.get_submodule("model.language_model").named_parameters())
    with torch.no_grad():
        for name, value in bundle.parameters():
            parameters.pop(name.removeprefix("model.")).copy_(value)
    assert not parameters
    tokens = torch.arange(40).reshape(2, 20) * 3 % IMAGE
    plain = model(tokens).logits
    tuned = PeftModel.from_pretrained(model, run)
    adapted = {n.removesuffix(".default.weight") for n in tuned.state_dict() if ".lora_" in n}
    names = load_file(run / "adapter_model.safetensors")
    assert adapted == {name.removesuffix(".weight") for name in names}
    whole = tuned(tokens).logits
    assert (whole - plain).abs().max() > 0.1 * plain.abs().max()

    # The text model alone takes the same file under the names of models of text.
    text = get_peft_model(bundle.reference_model(), LoraConfig.from_pretrained(str(run)))
    own = {n.replace(".language_model.", "."): t for n, t in names.items()}
    missing, extra = text.load_state_dict(
        {n.replace(".weight", ".default.weight"): t for n, t in own.items()}, strict=False
    )
    assert not extra and not [name for name in missing if ".lora_" in name]
    assert torch.allclose(text.eval()(tokens).logits, whole, rtol=1e-5, atol=1e-5)

    # Folded in, or for llama.cpp, it is the text model's.
    config, _ = find_config(run, str(tmp_path / "model"))
    assert write_gguf_adapter(run, tmp_path / "adapter.gguf", config, "tiny") == len(names) // 2
    base = find_base(run, str(tmp_path / "bundle"))
    assert base.source.text_module == source.text_module
    assert base.source.left_out == source.left_out
    words = [
        "merge",
        run,
        "-o",
        tmp_path / "merged",
        "--base",
        tmp_path / "bundle",
        "--type",
        "f32",
    ]
    said = CliRunner().invoke(app, list(map(str, words))).stdout
    assert "It is the text part alone; left out: " in said
    card = (tmp_path / "merged/README.md").read_text()
    for told in (said, card):
        assert "vision_tower (0.0 M values)" in told
    assert "This is the text part of the base model." in card
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(merged.eval()(tokens).logits, whole, rtol=1e-4, atol=1e-4)

    # And so does the engine: it is evaluated with, and training starts from it.
    settings = LoraSettings.from_json(bundle.manifest["lora"])
    write_peft_adapter(run, bundle.adapter.specs(), settings, case.adapter)
    *_, last = run_trainer("evaluate", *case.arguments(), "--threads", 1)
    with torch.no_grad():
        losses = sum(loss_sum(text, case.rows, index).item() for index in range(4))
    assert last["loss"] == pytest.approx(losses / labelled(case.rows, range(4)), rel=1e-5)


def test_an_adapter_of_the_vision_tower_is_refused(tmp_path):
    model = whole_model("gemma3")
    new_names(model, tmp_path / "model")
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    source = open_source(str(tmp_path / "model"))
    specs = adapter_specs(source.config, read_peft_settings(tmp_path / "adapter"))
    with pytest.raises(ToolkitError, match=r"has base_model\.model\.model\.vision_tower.*no place"):
        check_peft_weights(tmp_path / "adapter", specs)


def change(folder, function):
    tensors = load_file(folder / "model.safetensors")
    function(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda t: t.update({"model.gate.weight": torch.ones(1)}), r"model\.gate\.weight is not"),
        (
            lambda t: t.update({"model.language_model.layers.0.x.weight": torch.ones(1)}),
            r"model\.layers\.0\.x\.weight is not covered",
        ),
        (
            lambda t: t.update({"model.other.embed_tokens.weight": torch.ones(1)}),
            "has 2 text models",
        ),
        (lambda t: t.pop("model.language_model.embed_tokens.weight"), "has no text models"),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(64)}),
            r"has model\.norm\.weight of the text model twice",
        ),
        (
            lambda t: t.update({n: torch.ones(150, 64) for n in ("lm_head.weight", _OLD_HEAD)}),
            r"has lm_head\.weight of the text model twice",
        ),
    ],
)
def test_what_is_neither_text_nor_known_is_refused(tmp_path, function, message):
    new_names(whole_model("gemma3"), tmp_path / "model")
    change(tmp_path / "model", function)
    settings = ExportSettings(LoraSettings(2, 4.0, (ALL_LINEAR,)), (8,))
    with pytest.raises(ToolkitError, match=message):
        export_bundle(open_source(str(tmp_path / "model")), tmp_path / "bundle", settings)


def test_a_text_part_of_another_family_is_named(tmp_path):
    new_names(whole_model("gemma3"), tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["model_type"] = "gemma2"
    path.write_text(json.dumps(config))
    with pytest.raises(ToolkitError, match="'gemma2' is not supported"):
        open_source(str(tmp_path / "model"))
