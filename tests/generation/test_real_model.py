"""SmolLM2-135M after training on chats, its figures: replies beside those of `transformers`, and
the held-out loss of merged models. `make soak` runs it; some ten minutes.
"""

import itertools
import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import toolkit
from tests.support.generation import Replier
from toolkit.bundle.adapter import write_peft_adapter
from toolkit.bundle.bundle import Bundle
from toolkit.data.dataset import read_rows
from toolkit.exchange.base import Base
from toolkit.exchange.gguf_model import merge_to_gguf
from toolkit.generation.prompts import Prompts
from toolkit.lora import LoraSettings
from toolkit.oracle.batch import mean_loss
from toolkit.oracle.model import build_model
from toolkit.sources import open_source
from tools.fetch_demo_assets import CHATS, MODEL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("TOOLKIT_SOAK"), reason="takes minutes (make soak)"),
]
TRAINED, ASKED, TOKENS = 300, 20, 64
TIE = 1e-4
ROWS = 16


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with bundle, data and a run whose adapter matters."""
    folder = tmp_path_factory.mktemp("smollm2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_HOME", str(folder / "home"))
        with CHATS.open() as source:
            (folder / "chats.jsonl").write_text("".join(itertools.islice(source, TRAINED)))
        bundle = toolkit.export(MODEL, folder / "bundle", seq_lens=[256])
        data = toolkit.prepare_data(
            [folder / "chats.jsonl"], tokenizer=bundle, output=folder / "data"
        )
        settings = toolkit.TrainSettings(steps=40, learning_rate=1e-3, grad_accum=2, eval_every=0)
        with toolkit.open_device("local") as device:
            device.deploy(bundle, data)
            device.train("run1", settings).wait().pull(folder / "run1")
    return folder


@pytest.fixture(scope="module")
def adapter(made):
    """The run's adapter as the engine reads it."""
    bundle = Bundle.open(made / "bundle")
    lora = LoraSettings.from_json(bundle.manifest["lora"])
    write_peft_adapter(made / "run1", bundle.adapter.specs(), lora, made / "adapter.ptd")
    return made / "adapter.ptd"


def test_greedy_replies_are_those_of_transformers(made, adapter):
    """Every token is the likeliest behind those before it, or tied with that one within rounding;
    a reply without ties is what `transformers` generates, token by token.
    """
    bundle = Bundle.open(made / "bundle")
    prompts = Prompts(bundle)
    with CHATS.open() as source:
        chats = map(json.loads, itertools.islice(source, TRAINED, TRAINED + ASKED))
        asked = [prompts.tokens(chat["messages"][:1]) for chat in chats]
    replies, ties = {}, []
    with Replier(made / "bundle", stop_tokens="none", max_tokens=TOKENS) as replier:
        for name in ("none", adapter):
            model = build_model(bundle, None if name == "none" else adapter)
            found = [replier.reply(prompt, adapter=name)[0] for prompt in asked]
            for prompt, reply in zip(asked, found, strict=True):
                assert len(reply) == TOKENS
                tied = behind_the_likeliest(model, prompt, reply)
                ties += tied
                if not tied:
                    assert reply == generated(model, prompt)
            replies[str(name)] = found
    without, trained = replies.values()
    different = sum(a != b for a, b in zip(without, trained, strict=True))
    print(f"\n{ASKED} prompts x {TOKENS} tokens, twice: {len(ties)} ties {ties}")
    print(f"{different} of {ASKED} replies are others with the adapter")
    assert different > 0.9 * ASKED


def behind_the_likeliest(model, prompt: list[int], reply: list[int]) -> list[float]:
    """Return by how much logits of a reply's tokens are below the highest, where they are."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(reply)[:, None])[:, 0]
    behind = logits.amax(1) - chosen
    assert behind.max() < TIE, f"token {int(behind.argmax())} is {float(behind.max())} behind"
    return behind[behind > 0].tolist()


def generated(model, prompt: list[int]) -> list[int]:
    """Return the greedy reply of `transformers`, with its own cache."""
    tokens = torch.tensor([prompt])
    with torch.no_grad():
        whole = model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            max_new_tokens=TOKENS,
            eos_token_id=None,
            pad_token_id=0,
        )
    return whole[0, len(prompt) :].tolist()


def test_merged_models_keep_the_loss(made, adapter):
    """Of base and adapter in PyTorch, the merged one's on the same held-out rows, by its type."""
    bundle = Bundle.open(made / "bundle")
    rows = read_rows(made / "data/validation.ptd")
    without = mean_loss(build_model(bundle), rows, ROWS)
    wanted = mean_loss(build_model(bundle, adapter), rows, ROWS)
    report = toolkit.evaluate(
        made / "bundle", made / "data", adapter=made / "run1", max_samples=ROWS
    )
    assert report.with_adapter.loss == pytest.approx(wanted, rel=1e-4)
    print(f"\nheld-out loss: base {without:.4f}, with the adapter {wanted:.4f}")
    base = Base(open_source(str(MODEL)), True)
    for kind, bar in (("f16", 1e-3), ("q8_0", 1e-2), ("q4_1", None)):
        file = made / f"{kind}.gguf"
        merge_to_gguf(made / "run1", file, base, kind)
        loss = mean_loss(model_of_gguf(file), rows, ROWS)
        print(
            f"merged, {kind} where the adapter is: {loss:.4f}, {100 * (loss / wanted - 1):+.3f} %"
        )
        assert bar is None or abs(loss / wanted - 1) < bar, kind
        assert loss < without
    toolkit.merge(made / "run1", made / "merged", type="f16")
    model = AutoModelForCausalLM.from_pretrained(made / "merged", dtype=torch.float32)
    loss = mean_loss(model, rows, ROWS)
    print(f"merged directory, f16: {loss:.4f}, {100 * (loss / wanted - 1):+.3f} %")
    assert abs(loss / wanted - 1) < 1e-3
    assert abs(wanted / without - 1) > 0.05  # or the adapter would not matter


def model_of_gguf(path: Path):
    """Return a model with the values that a GGUF file has."""
    source = open_source(str(path))
    model = AutoModelForCausalLM.from_config(source.config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source.read(name))
    return model
