"""Merged model directories against peft's own merge, every weight of them."""

import copy
import json
import re
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support.adapters import logits_of, save_adapter
from tests.support.bundles import export_tiny, export_with_tokenizer
from tests.support.chatml import QWEN2, SMOLLM2, make_tokenizer
from tests.support.models import plain_model, save_model, write_gguf
from tests.support.tiny import tiny_config
from toolkit.bundle.bundle import Bundle
from toolkit.errors import ToolkitError
from toolkit.exchange import merging
from toolkit.exchange.base import Base, find_base
from toolkit.exchange.merging import merge_to_directory
from toolkit.exchange.output import MARK
from toolkit.families import FAMILIES
from toolkit.sources import open_source
from toolkit.sources.bundle import BundleSource


def assert_equals_pefts_merge(folder, with_adapter, dtype=torch.float32):
    expected = copy.deepcopy(with_adapter).merge_and_unload()
    merged = AutoModelForCausalLM.from_pretrained(folder)
    assert merged.dtype == dtype
    values = dict(merged.named_parameters())
    assert set(values) == {name for name, _ in expected.named_parameters()}
    for name, value in expected.named_parameters():
        # The low-rank product is rounded in another order: a few units in the last place.
        tolerance = 8 * torch.finfo(torch.float32).eps * value.abs().amax()
        wanted = value.to(dtype).float()
        if dtype != torch.float32:
            tolerance = tolerance + torch.finfo(dtype).eps * value.abs()
        assert ((values[name].float() - wanted).abs() <= tolerance).all(), name
    return merged


@pytest.mark.parametrize("family", FAMILIES)
def test_original_weights(tmp_path, family):
    model = save_model(tmp_path / "model", family, tied=family == "qwen2")
    with_adapter = save_adapter(tmp_path / "adapter", model)
    base = find_base(tmp_path / "adapter", str(tmp_path / "model"))
    result = merge_to_directory(tmp_path / "adapter", tmp_path / "merged", base)
    merged = assert_equals_pefts_merge(tmp_path / "merged", with_adapter)
    assert result.original and result.kind == "f32" and str(tmp_path / "model") in result.base
    assert result.weights == sum("lora_A" in n for n, _ in with_adapter.named_parameters())
    tokens = list(range(20))
    error = (logits_of(merged, tokens) - logits_of(with_adapter, tokens)).abs().max()
    assert error < 1e-4 * (logits_of(model, tokens) - logits_of(with_adapter, tokens)).abs().max()


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi3"])
def test_weights_of_a_bundle(tmp_path, family):
    export_tiny(tmp_path / "bundle", family, tied=False)
    reference = Bundle.open(tmp_path / "bundle").reference_model()
    with_adapter = save_adapter(tmp_path / "adapter", reference)
    base = find_base(tmp_path / "adapter", str(tmp_path / "bundle"))
    result = merge_to_directory(tmp_path / "adapter", tmp_path / "merged", base, "f32")
    assert_equals_pefts_merge(tmp_path / "merged", with_adapter)
    assert not result.original and result.base.startswith("weights dequantized from the bundle")


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_other_numbers_and_shards(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(merging, "_SHARD_BYTES", 30_000)
    model = save_model(tmp_path / "model", "qwen2")
    with_adapter = save_adapter(tmp_path / "adapter", model, use_rslora=True)
    base = find_base(tmp_path / "adapter", str(tmp_path / "model"))
    seen = []
    folder = tmp_path / "merged"
    result = merge_to_directory(
        tmp_path / "adapter", folder, base, kind, lambda done, total: seen.append((done, total))
    )
    assert_equals_pefts_merge(folder, with_adapter, merging.FLOATS[kind])
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == len(list(folder.glob("*.safetensors"))) > 3
    assert index["metadata"]["total_size"] == result.nbytes == seen[-1][0] == seen[-1][1]


def test_a_gguf_model(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, plain_model("llama"), tokenizer=None)
    source = open_source(str(path))
    reference = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32
    )
    with_adapter = save_adapter(tmp_path / "adapter", reference)
    source.save_tokenizer = lambda directory: False  # made-up tokens that no text consists of
    result = merge_to_directory(tmp_path / "adapter", tmp_path / "merged", Base(source, True))
    assert result.kind == "f16"
    assert_equals_pefts_merge(tmp_path / "merged", with_adapter, torch.float16)


def test_what_else_is_in_the_directory(tmp_path):
    model = save_model(tmp_path / "model", "qwen2")
    make_tokenizer(QWEN2).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text('{"temperature": 0.6}')
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\n")
    save_adapter(tmp_path / "adapter", model, base=str(tmp_path / "model"))
    merge_to_directory(tmp_path / "adapter", tmp_path / "merged", find_base(tmp_path / "adapter"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.encode("hello") == make_tokenizer(QWEN2).encode("hello")
    generation = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert generation["temperature"] == 0.6
    card = (tmp_path / "merged" / "README.md").read_text()
    assert 'license: "mit"' in card and "the original weights of" in card
    names = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], names)
    assert names["model"].num_parameters() == model.num_parameters()
    # A merged model is a model like any other, and the next one takes its place.
    again = open_source(str(tmp_path / "merged"))
    assert again.license == "mit" and again.config.architectures == ["Qwen2ForCausalLM"]
    merge_to_directory(tmp_path / "adapter", tmp_path / "merged", find_base(tmp_path / "adapter"))


def test_the_card_names_the_model_that_was_taken(tmp_path):
    """The adapter's own, unless another was named: the hub would list the model under it."""
    model = save_model(tmp_path / "model", "qwen2")
    save_adapter(tmp_path / "adapter", model, base="somebody/model")
    for base, named in (
        (find_base(tmp_path / "adapter", str(tmp_path / "model")), False),
        (Base(open_source(str(tmp_path / "model")), True), True),
    ):
        merge_to_directory(tmp_path / "adapter", tmp_path / "merged", base)
        card = (tmp_path / "merged/README.md").read_text()
        assert ("base_model: somebody/model" in card) == named


def test_a_bundles_tokenizer_comes_along(tmp_path):
    bundle = export_with_tokenizer(tmp_path / "bundle")
    assert BundleSource(bundle).save_tokenizer(tmp_path)
    assert {"tokenizer.json", "tokenizer_config.json"} <= {p.name for p in tmp_path.iterdir()}
    text = "hello there"
    assert AutoTokenizer.from_pretrained(tmp_path).encode(text) == make_tokenizer(SMOLLM2).encode(
        text
    )


def test_rows_of_a_bundle_are_those_of_the_whole(tmp_path):
    source = BundleSource(export_tiny(tmp_path / "bundle", "gemma3_text"))
    parameters = dict(source.bundle.parameters())
    assert set(parameters) == set(source.names())
    for name, value in parameters.items():
        assert torch.equal(source.read(name), value), name
        if value.ndim == 2:
            assert torch.equal(source.rows(name, 5, 37), value[5:37]), name


def test_what_is_refused(tmp_path):
    model = save_model(tmp_path / "model", "qwen2")
    save_adapter(tmp_path / "adapter", model, base=str(tmp_path / "model"))
    base = find_base(tmp_path / "adapter")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(ToolkitError, match="exists and is not a merged model"):
        merge_to_directory(tmp_path / "adapter", other, base)
    # The card of a run is as much ours as that of a merged model.
    run = tmp_path / "adapter"
    (run / "README.md").write_text(f"{MARK}\n")
    with pytest.raises(ToolkitError, match="which would be replaced"):
        merge_to_directory(run, run, base)
    shutil.copytree(run, tmp_path / "another")
    with pytest.raises(ToolkitError, match="exists and is not a merged model"):
        merge_to_directory(run, tmp_path / "another", base)
    (tmp_path / "model" / "README.md").write_text(f"{MARK}\n")
    with pytest.raises(ToolkitError, match="which would be replaced"):
        merge_to_directory(run, tmp_path / "model", base)
    for folder in ("adapter", "another", "model"):
        assert list((tmp_path / folder).glob("*.safetensors")), folder
    save_adapter(tmp_path / "large", model, size=3e4)
    with pytest.raises(ToolkitError, match=r"beyond the range of float16. Choose --type bf16"):
        merge_to_directory(tmp_path / "large", tmp_path / "merged", base, "f16")
    assert not list(tmp_path.glob("*merged*"))
    wider = tiny_config("qwen2")
    wider.intermediate_size = 128
    save_model(tmp_path / "wider", "qwen2", config=wider)
    third = find_base(tmp_path / "adapter", str(tmp_path / "wider"))
    with pytest.raises(ToolkitError, match="the model needs"):
        merge_to_directory(tmp_path / "adapter", tmp_path / "merged", third)
