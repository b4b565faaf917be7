"""What tests of talking share: a bundle that generates, an adapter, and the models beside them."""

import pytest
import torch

from tests.support.adapters import save_adapter
from tests.support.bundles import export_with_tokenizer
from toolkit.bundle.bundle import Bundle

CONTEXT = 4096


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle, the folder of an adapter, and the models without it and with it."""
    folder = tmp_path_factory.mktemp("generate")
    bundle = export_with_tokenizer(folder / "bundle", generation=True, context=CONTEXT)
    model = Bundle.open(bundle).reference_model()
    with_adapter = save_adapter(folder / "adapter", model, lora_alpha=8)
    return bundle, folder / "adapter", model, with_adapter


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))


def greedy(model, tokens: list[int], ends: set[int], count: int = 12) -> list[int]:
    """Return the likeliest tokens after some up to one that ends a reply."""
    found: list[int] = []
    with torch.no_grad():
        while len(found) < count:
            token = int(model(torch.tensor([tokens + found])).logits[0, -1].argmax())
            if token in ends:
                break
            found.append(token)
    return found


def rendered(bundle, messages) -> list[int]:
    tokenizer = Bundle.open(bundle).tokenizer()
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]
