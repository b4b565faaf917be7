"""The tokenizer of a GGUF file splits text as the file says, or is refused."""

import json

import pytest

from tests.support.chatml import SMOLLM2, make_tokenizer
from tests.support.models import tiny_model, write_gguf
from tests.support.tiny import tiny_config
from toolkit.data.tokenizers import load_tokenizer
from toolkit.errors import ToolkitError
from toolkit.sources import open_source


@pytest.fixture(scope="module")
def model():
    config = tiny_config("qwen2")
    config.vocab_size = 400
    return tiny_model("qwen2", config=config)


def steps(tokenizer) -> list[str]:
    content = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]
    return [step["type"] for step in content.get("pretokenizers", [content])]


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ("smollm", ["Digits", "ByteLevel"]),
        ("refact", ["Digits", "ByteLevel"]),
        ("gpt-2", ["ByteLevel"]),
        (None, ["ByteLevel"]),
        ("llama-bpe", ["Split", "ByteLevel"]),
        ("qwen2", ["Split", "ByteLevel"]),
        ("gpt-4o", ["Split", "ByteLevel"]),
    ],
)
def test_text_is_split_as_the_file_says(tmp_path, model, splits, expected):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, model, tokenizer=make_tokenizer(SMOLLM2), splits=splits)
    tokenizer = load_tokenizer(str(path))
    assert steps(tokenizer) == expected
    assert open_source(str(path)).save_tokenizer(tmp_path / "saved")
    assert steps(load_tokenizer(str(tmp_path / "saved"))) == expected
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(" 2024")["input_ids"])
    assert tokens == ["\u0120", *"2024"], "of 400 tokens none has two digits"


def test_a_way_that_is_not_known_is_refused(tmp_path, model):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, model, tokenizer=make_tokenizer(SMOLLM2), splits="nosuch")
    with pytest.raises(ToolkitError, match=r"in a way that is not known \(nosuch\)"):
        load_tokenizer(str(path))
