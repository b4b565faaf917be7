"""GGUF files of models that are none: read back by our own reader, and llama.cpp's word on them."""

import json
import warnings

import gguf
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.exchange.test_gguf_adapter import TOKENS, compare, model_for_llama_cpp
from tests.sources.test_tokenizer import TEXTS
from tests.support.adapters import logits_of, save_adapter
from tests.support.bundles import export_tiny
from tests.support.chatml import SMOLLM2, make_tokenizer
from tests.support.family_tokenizers import FAMILIES as TOKENIZERS
from tests.support.family_tokenizers import trained, wrapped
from tests.support.llama_cpp import llama_cpp_logits, llama_cpp_tokens
from tests.support.models import LLAMA_3_2, save_model, stored_config, tiny_config, tiny_model
from toolkit.bundle.bundle import Bundle
from toolkit.data.tokenizers import load_tokenizer
from toolkit.errors import ToolkitError
from toolkit.exchange.base import Base, find_base
from toolkit.exchange.gguf_model import merge_to_gguf
from toolkit.families import FAMILIES
from toolkit.sources import open_source

FAMILY_OF = {
    "smollm2": "llama", "llama3.2": "llama", "smollm3": "smollm3", "qwen2.5": "qwen2",
    "qwen3": "qwen3", "gemma3": "gemma3_text", "phi3": "phi3", "phi4": "phi3", "olmo2": "olmo2",
    "granite3": "granite",
}  # fmt: skip
_LINES = [
    "hello there, how are you doing today? 12345\n",
    "I'm fine, thank you!\n\nAnd you? x=1+2;\n",
    "the assistant said hello to the user and the model\n",
] * 20


def merged_file(folder, model, kind="f32", **options):
    """Return the file of a saved model with an adapter, and the model with it."""
    model.save_pretrained(folder / "model")
    with_adapter = save_adapter(folder / "adapter", model, **options)
    base = find_base(folder / "adapter", str(folder / "model"))
    result = merge_to_gguf(folder / "adapter", folder / "merged.gguf", base, kind)
    assert result.original and result.path == folder / "merged.gguf"
    return result.path, with_adapter


def assert_values(path, with_adapter, error):
    """Every tensor is the merged one, its distance from that relative to its norm below `error`."""
    again = open_source(str(path))
    expected = dict(with_adapter.merge_and_unload().named_parameters())
    assert {name for name in again.names() if not name.startswith("rope_")} == {
        name
        for name in expected
        if name != "lm_head.weight" or not again.config.tie_word_embeddings
    }
    for name, value in expected.items():
        if name in again.names():
            distance = (again.read(name) - value).norm() / value.norm()
            assert distance <= error, (name, distance)
    return again


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_what_peft_does(tmp_path, family):
    model = model_for_llama_cpp(family)
    if family == "phi3":  # whose saved configuration needs it
        model.config.rope_parameters["partial_rotary_factor"] = 1.0
    path, with_adapter = merged_file(tmp_path, model)
    expected = logits_of(with_adapter, TOKENS)
    compare(llama_cpp_logits(path, TOKENS), expected, logits_of(model, TOKENS), 1e-3)
    # Products of rank 4 in another order, and one added to norms and taken away again.
    assert_values(path, with_adapter, 8 * torch.finfo(torch.float32).eps)


def test_a_head_that_is_the_embedding_where_llama_cpp_wants_one(tmp_path):
    config = tiny_config("olmo2", tied=True)
    config.initializer_range = 0.2
    model = tiny_model("olmo2", config=config)
    path, with_adapter = merged_file(tmp_path, model)
    expected = logits_of(with_adapter, TOKENS)
    compare(llama_cpp_logits(path, TOKENS), expected, logits_of(model, TOKENS), 1e-3)
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    assert (stored["output.weight"] == stored["token_embd.weight"]).all()
    assert not open_source(str(path)).config.tie_word_embeddings


@pytest.mark.parametrize(
    ("family", "rope"),
    [
        ("llama", LLAMA_3_2),
        ("qwen2", {"rope_type": "linear", "factor": 4.0}),
        ("qwen3", {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
        ("phi3", {}),
    ],
    ids=["llama3", "linear", "yarn", "longrope"],
)
def test_rotary_scaling(tmp_path, family, rope):
    config = stored_config(family)
    config.initializer_range = 0.2
    if rope:
        config.rope_parameters = {"rope_theta": 10000.0, **rope}
    model = tiny_model(family, config=config)
    path, with_adapter = merged_file(tmp_path, model)
    tokens = TOKENS[:12]  # Phi's change of frequencies llama.cpp makes by the context, not a text
    expected = logits_of(with_adapter, tokens)
    if family != "phi3":
        compare(llama_cpp_logits(path, tokens), expected, logits_of(model, tokens), 1e-3)
    again = assert_values(path, with_adapter, 1e-6)
    assert again.config.rope_parameters["rope_type"] == model.config.rope_parameters["rope_type"]


@pytest.mark.parametrize(("kind", "error"), [("f16", 5e-4), ("q8_0", 0.01), ("q4_1", 0.12)])
def test_types(tmp_path, kind, error):
    path, with_adapter = merged_file(tmp_path, model_for_llama_cpp("qwen2"), kind, size=0.05)
    assert_values(path, with_adapter, error)
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}
    assert kinds["token_embd.weight"] == {"q4_1": "Q8_0"}.get(kind, kind.upper())
    assert kinds["blk.0.attn_q.weight"] == kind.upper()
    assert kinds["blk.0.attn_q.bias"] == kinds["output_norm.weight"] == "F32"


def test_a_bundle(tmp_path):
    """What the bundle's quantized weights stand for, and no type said: float16."""
    export_tiny(tmp_path / "bundle", "qwen2", tied=False)
    reference = Bundle.open(tmp_path / "bundle").reference_model()
    with_adapter = save_adapter(tmp_path / "adapter", reference, size=0.1)
    base = find_base(tmp_path / "adapter", str(tmp_path / "bundle"))
    result = merge_to_gguf(tmp_path / "adapter", tmp_path / "merged.gguf", base)
    assert result.kind == "f16" and not result.original
    assert_values(result.path, with_adapter, 5e-4)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_llama_cpp_and_our_reader_have_the_models_tokens(tmp_path, name):
    tokenizer = wrapped(name, trained(name, 700, _LINES), "{{ messages }}")
    config = stored_config(FAMILY_OF[name], layers=4, tied=True)
    config.vocab_size = len(tokenizer) + 5
    model = tiny_model(FAMILY_OF[name], config=config)
    tokenizer.save_pretrained(tmp_path / "model")
    path, _ = merged_file(tmp_path, model)
    source = load_tokenizer(str(tmp_path / "model"))
    # The real Gemma merges spaces; this one has no merge for its tokens of several.
    texts = [text for text in TEXTS if name != "gemma3" or "  " not in text]
    expected = [source(text)["input_ids"] for text in texts]
    assert llama_cpp_tokens(path, texts) == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = load_tokenizer(str(path))
    assert [opened(text)["input_ids"] for text in texts] == expected
    assert opened.chat_template == "{{ messages }}"
    assert (opened.eos_token, opened.bos_token) == (source.eos_token, source.bos_token)


def test_scaling_of_no_release_is_refused(tmp_path):
    with pytest.raises(ToolkitError, match="is not known"):
        merged_file(tmp_path, tiny_model("llama"))
    assert list(tmp_path.glob("*merged*")) == []


def test_what_llama_cpp_takes_for_granted_otherwise_is_refused(tmp_path):
    config = stored_config("smollm3", layers=4)
    config.no_rope_layers = [1, 0, 1, 0]
    model = save_model(tmp_path / "model", "smollm3", config=config)
    save_adapter(tmp_path / "adapter", model)
    base = Base(open_source(str(tmp_path / "model")), True)
    with pytest.raises(ToolkitError, match=r"cannot say what this model's layers are. Merge to a"):
        merge_to_gguf(tmp_path / "adapter", tmp_path / "m.gguf", base)
    assert list(tmp_path.glob("*m.gguf*")) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.Whitespace()), "no name"),
        (lambda backend: setattr(backend, "model", models.Unigram([("a", 0.0)])), "Unigram"),
    ],
    ids=["splits", "kind"],
)
def test_tokenizers_that_llama_cpp_lacks_are_refused(tmp_path, spoil, message):
    whole = make_tokenizer(SMOLLM2)
    backend = Tokenizer.from_str(json.dumps(json.loads(whole.backend_tokenizer.to_str())))
    spoil(backend)
    config = stored_config("qwen2")
    config.vocab_size = 448
    model = save_model(tmp_path / "model", "qwen2", config=config)
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path / "model")
    save_adapter(tmp_path / "adapter", model)
    base = find_base(tmp_path / "adapter", str(tmp_path / "model"))
    with pytest.raises(ToolkitError, match=f"{message}.*convert_hf_to_gguf"):
        merge_to_gguf(tmp_path / "adapter", tmp_path / "m.gguf", base)
    assert not (tmp_path / "m.gguf").exists()
