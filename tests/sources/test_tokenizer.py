"""The tokenizer of a GGUF file gives llama.cpp's tokens, or the file is refused."""

import json
import unicodedata
import warnings

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.support.chatml import SMOLLM2, make_tokenizer
from tests.support.llama_cpp import llama_cpp_tokens
from tests.support.models import stored_config, tiny_model, write_gguf
from toolkit.data.tokenizers import load_tokenizer
from toolkit.errors import ToolkitError, ToolkitWarning
from toolkit.sources import open_source

TEXTS = [
    *(
        "hello there",
        " assistant hello",
        "I'm fine, he'LL do",
        "2024 12345 and 1,000.50",
        "x=1+2;\n",
    ),
    *(
        "$5 <a|b> ^~ ...!? 12345 .",
        "a  b\n\n  c \t d\u00a0e",
        "\n\n\n",
        "caf\u00e9 na\u00efve \u6771\u4eac",
    ),
    *("<|im_start|>user\nhello<|im_end|>\n", "  ", "\u0663\u0664\u0665 \u00bd", "you 'dare x's"),
]


@pytest.fixture(scope="module")
def tokenizer():
    """One in which every way to split and to take pieces makes a difference."""
    whole = make_tokenizer(SMOLLM2)
    content = json.loads(whole.backend_tokenizer.to_str())
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    merges.remove(next(pair for pair in merges if "".join(pair) == "\u0120assistant"))
    for pair in ("\u0120.", "34", "\u01202"):
        vocabulary[pair] = len(vocabulary)
        merges.append(list(pair))
    roles = {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>", "pad_token": "<|endoftext|>"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), **roles
    )
    fast.chat_template = SMOLLM2
    return fast


def save(path, tokenizer, splits, family="qwen2"):
    config = stored_config(family)
    config.vocab_size = len(tokenizer)
    write_gguf(path, tiny_model(family, config=config), tokenizer=tokenizer, splits=splits)


@pytest.mark.parametrize(
    ("splits", "family"),
    [
        *(("smollm", "llama"), ("refact", "granite"), ("gpt-2", "qwen2"), ("default", "qwen2")),
        *((None, "llama"), ("llama-bpe", "smollm3"), ("dbrx", "llama"), ("qwen2", "qwen3")),
        ("gpt-4o", "phi3"),
    ],
)
def test_tokens_are_those_of_llama_cpp(tmp_path, tokenizer, splits, family):
    path = tmp_path / "tiny.gguf"
    save(path, tokenizer, splits, family)
    expected = llama_cpp_tokens(path, TEXTS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ToolkitWarning)
        opened = load_tokenizer(str(path))
    said = [str(one.message) for one in caught if one.category is ToolkitWarning]
    assert len(said) == (splits in ("default", None))
    assert all("does not say how its model splits text" in text for text in said)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ToolkitWarning)
        assert open_source(str(path)).save_tokenizer(tmp_path / "saved")
    whole = tokenizer.convert_tokens_to_ids("\u0120assistant")
    assert (whole in expected[1]) == (splits == "llama-bpe")
    for one in (opened, load_tokenizer(str(tmp_path / "saved"))):
        for text, tokens in zip(TEXTS, expected, strict=True):
            assert one(text)["input_ids"] == tokens, text
    taken_apart = "cafe\u0301"
    alike = (
        opened(taken_apart)["input_ids"]
        == opened(unicodedata.normalize("NFC", taken_apart))["input_ids"]
    )
    assert alike == (splits == "qwen2")


def test_a_family_that_transformers_reads_no_file_of_has_its_tokenizer(tmp_path, tokenizer):
    path = tmp_path / "tiny.gguf"
    save(path, tokenizer, "dbrx", "olmo2")
    opened = load_tokenizer(str(path))
    assert opened.get_vocab() == tokenizer.get_vocab()
    assert opened.eos_token == "<|im_end|>"


def test_a_way_that_is_not_known_is_refused(tmp_path, tokenizer):
    path = tmp_path / "tiny.gguf"
    save(path, tokenizer, "nosuch")
    with pytest.raises(ToolkitError, match=r"in a way that is not known \(nosuch\)"):
        load_tokenizer(str(path))


def test_a_directory_that_leaves_its_end_to_its_class_has_that_end(tmp_path):
    tokenizer = make_tokenizer(SMOLLM2)
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    stated = json.loads(path.read_text())
    del stated["eos_token"]
    path.write_text(json.dumps(stated | {"tokenizer_class": "GPT2Tokenizer"}))
    opened = load_tokenizer(str(tmp_path))
    assert opened.eos_token == "<|endoftext|>"
    assert opened.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    path.write_text(json.dumps(stated | {"tokenizer_class": "GPT2Tokenizer", "eos_token": None}))
    assert load_tokenizer(str(tmp_path)).eos_token is None, "which is said to be none"
