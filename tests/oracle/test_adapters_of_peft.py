"""Adapters that PEFT made and trained elsewhere: replies, losses and more training are PEFT's."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import toolkit
from tests.support.adapters import save_adapter
from tests.support.workplace import make_workplace
from toolkit.data.dataset import read_rows
from toolkit.generation.prompts import Prompts
from toolkit.oracle.batch import mean_loss
from toolkit.oracle.training import train
from toolkit.settings.generation import ReplySettings

KINDS = {
    "rslora of some modules in one layer, bfloat16": (
        torch.bfloat16,
        {
            "use_rslora": True,
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "layers_to_transform": [1],
            "rank_pattern": {"v_proj": 2},
            "alpha_pattern": {"layers.1.mlp.down_proj": 5},
        },
    ),
    "modules by a regular expression, float16": (
        torch.float16,
        {"target_modules": r".*\.(k|o|gate)_proj", "lora_alpha": 8},
    ),
}
LENGTH = 32


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def place(request, tmp_path, monkeypatch):
    """A folder with a model, an adapter in another type, a bundle for it, and data."""
    dtype, options = request.param
    make_workplace(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    save_adapter(tmp_path / "theirs", AutoModelForCausalLM.from_pretrained("model"), **options)
    path = tmp_path / "theirs/adapter_model.safetensors"
    save_file({name: value.to(dtype) for name, value in load_file(path).items()}, path)
    toolkit.export("model", "bundle", seq_lens=[LENGTH], adapter="theirs")
    toolkit.prepare_data(["chats.jsonl"], tokenizer="bundle", output="data", seq_len=LENGTH)
    return tmp_path


def with_adapter(bundle, adapter, **options):
    """Return PEFT's model of an adapter on the bundle's weights."""
    return PeftModel.from_pretrained(bundle.reference_model(torch.float32), adapter, **options)


def test_replies_losses_and_training_are_those_of_peft(place):
    bundle = toolkit.Bundle.open(place / "bundle")
    theirs = with_adapter(bundle, "theirs").eval()
    rows = read_rows(place / "data/train.ptd")

    report = toolkit.evaluate("bundle", "data", adapter="theirs", split="train", max_samples=4)
    assert report.with_adapter.loss == pytest.approx(mean_loss(theirs, rows, 4), rel=1e-6)
    assert abs(report.with_adapter.loss - report.without_adapter.loss) > 1e-2

    asked = rows.tokens[0, :12].tolist()
    with toolkit.open_talker("theirs", bundle="bundle", plain=True) as talker:
        reply = talker.reply("hello 3", ReplySettings(temperature=0, max_tokens=8))
        [score] = talker.score_tokens([(asked, 1)])
    prompt = Prompts(bundle, plain=True).tokens("hello 3")
    with torch.no_grad():
        logits = theirs(input_ids=torch.tensor([prompt + reply.tokens])).logits[0].double()
        probabilities = theirs(input_ids=torch.tensor([asked])).logits[0].double().log_softmax(-1)
    likeliest = logits[len(prompt) - 1 : -1].argmax(1).tolist()
    assert reply.tokens == likeliest
    expected = probabilities[:-1].gather(1, torch.tensor(asked[1:])[:, None]).sum()
    assert score == pytest.approx(float(expected), rel=1e-6)

    settings = toolkit.TrainSettings(
        steps=3, learning_rate=1e-2, optimizer="sgd", order="sequential", threads=1
    )
    with toolkit.open_device("local") as device:
        device.deploy("bundle", "data")
        device.train("more", settings, adapter="theirs").wait()
        device.run("more").pull("more")
    learner = with_adapter(bundle, "theirs", is_trainable=True).train()
    before = {n: p.detach().clone() for n, p in learner.named_parameters() if p.requires_grad}
    list(train(learner, rows, settings))
    ours = dict(with_adapter(bundle, "more").named_parameters())
    for name, start in before.items():
        wanted = dict(learner.named_parameters())[name].detach()
        assert (ours[name] - wanted).norm() < 1e-3 * (wanted - start).norm(), name
        assert (wanted - start).norm() > 0
