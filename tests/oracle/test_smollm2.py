"""The trainer on a real model: SmolLM2-135M's weights and human chats, against PyTorch."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.support.trainer import read_trace, run_trainer
from toolkit.bundle.adapter import LoraSettings
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.data.chat import ChatEncoder
from toolkit.data.dataset import read_rows
from toolkit.data.prepare import Settings, prepare
from toolkit.lora import PROJECTIONS
from toolkit.oracle.gradients import compare, step_gradients
from toolkit.oracle.model import build_exact_model, build_model
from toolkit.oracle.training import train
from toolkit.oracle.verification import write_perturbed_adapter
from toolkit.settings.training import TrainSettings
from toolkit.sources import open_source
from tools.fetch_demo_assets import CHATS, MODEL

pytestmark = pytest.mark.slow
SEQ_LEN = 64


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    if not MODEL.is_file() or not CHATS.is_file():
        message = "the demo's assets are missing (tools/fetch_demo_assets.py)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    folder = tmp_path_factory.mktemp("smollm2") / "bundle"
    settings = ExportSettings(LoraSettings(8, 16.0, PROJECTIONS), (SEQ_LEN,))
    export_bundle(open_source(str(MODEL)), folder, settings)
    return Bundle.open(folder)


@pytest.fixture(scope="module")
def data(bundle, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chats")
    with CHATS.open() as source:
        (folder / "chats.jsonl").write_text("".join(itertools.islice(source, 12)))
    settings = Settings(SEQ_LEN, validation=0)
    prepare([folder / "chats.jsonl"], bundle.tokenizer(), settings, folder / "data")
    return folder / "data" / "train.ptd"


def test_gradients(bundle, data, tmp_path):
    adapter, out = tmp_path / "adapter.ptd", tmp_path / "gradients.safetensors"
    write_perturbed_adapter(bundle, adapter, seed=1)
    [result] = run_trainer(
        *("gradients", "--bundle", bundle.path, "--data", data, "--adapter", adapter),
        *("--samples", "0,3", "--out", out),
    )
    model = build_exact_model(bundle, adapter)
    expected = step_gradients(model, read_rows(data), [0, 3])
    errors = compare(load_file(out), expected.tensors)
    assert len(errors) == 30 * 7 * 2
    assert errors[0].relative < 1e-4, errors[:5]
    assert errors[len(errors) // 2].relative < 1e-5
    assert result["tokens"] == expected.tokens
    assert result["loss"] == pytest.approx(expected.loss, rel=1e-6)


def test_twenty_steps(bundle, data, tmp_path):
    settings = TrainSettings(steps=20, learning_rate=1e-3)
    run_trainer(
        *("train", "--bundle", bundle.path, "--data", data, "--out", tmp_path / "run"),
        *("--steps", settings.steps, "--lr", settings.learning_rate),
    )
    actual = read_trace(tmp_path / "run", "step")
    expected = list(train(build_model(bundle), read_rows(data), settings))
    assert [step["samples"] for step in actual] == [step.samples for step in expected]
    errors = [abs(a["loss"] / e.loss - 1) for a, e in zip(actual, expected, strict=True)]
    assert max(errors) < 1e-3, errors


def test_masks_with_the_real_template(bundle):
    tokenizer = bundle.tokenizer()
    encoder = ChatEncoder(tokenizer)
    with CHATS.open() as source:
        chats = [json.loads(line)["messages"] for line in itertools.islice(source, 40)]
    for messages in chats:
        (encoded,) = encoder.encode(messages)
        expected = tokenizer.apply_chat_template(messages)["input_ids"]
        assert encoded.tokens.tolist() == expected
        edges = np.flatnonzero(np.diff(np.concatenate([[0], encoded.mask.astype(int), [0]])))
        learned = [tokenizer.decode(encoded.tokens[a:b]) for a, b in edges.reshape(-1, 2)]
        replies = [m["content"] + "<|im_end|>" for m in messages if m["role"] == "assistant"]
        assert learned == replies
