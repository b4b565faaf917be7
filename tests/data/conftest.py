"""Tokenizers that all data tests share."""

import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from tests.support.chatml import QWEN2, SMOLLM2, make_tokenizer


@pytest.fixture(scope="session", params=["smollm2", "qwen2"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    if request.param == "smollm2":
        return make_tokenizer(SMOLLM2)
    return make_tokenizer(QWEN2, normalizers.NFC())


@pytest.fixture(scope="session")
def smollm2() -> PreTrainedTokenizerFast:
    return make_tokenizer(SMOLLM2)
