"""Adapters for llama.cpp, proven by llama.cpp itself: its logits against PyTorch's with peft."""

import os

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support.adapters import eight_bit_inputs, logits_of, save_adapter
from tests.support.llama_cpp import llama_cpp_logits
from tests.support.models import tiny_model, write_gguf
from tests.support.tiny import tiny_config
from toolkit.errors import ToolkitError
from toolkit.exchange.gguf_adapter import write_gguf_adapter
from toolkit.families import FAMILIES
from toolkit.sources import open_source
from tools.fetch_demo_assets import MODEL

TOKENS = [int(t) for t in torch.randint(150, (24,), generator=torch.Generator().manual_seed(5))]
LLAMA_CPP = {
    "smollm3": {"layers": 4, "no_rope_layers": [1, 1, 1, 0]},
    "gemma3_text": {
        "layers": 6,
        "query_pre_attn_scalar": 48,
        "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "phi3": {"sliding_window": None},
}
"""What llama.cpp takes for granted of a family and tiny models do otherwise."""


def model_for_llama_cpp(family):
    own = dict(LLAMA_CPP.get(family, {}))
    config = tiny_config(family, layers=own.pop("layers", 2), tied=family != "olmo2")
    config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    for name, value in own.items():
        setattr(config, name, value)
    config.initializer_range = 0.2
    return tiny_model(family, config=config)


def compare(actual, expected, without, bar):
    """Hold logits against PyTorch's; the adapter must have moved them by far more than the bar."""
    span = float(expected.max() - expected.min())
    assert float((expected - without).abs().max()) > 20 * bar * span
    difference = np.abs(actual - expected.numpy())
    row, token = np.unravel_index(difference.argmax(), difference.shape)
    assert difference.max() <= bar * span, f"token {row}, logit {token}: {difference.max() / span}"
    best = expected.topk(2).values
    clear = (best[:, 0] - best[:, 1]) > 2 * bar * span
    assert clear.sum() > len(clear) / 2
    assert (actual.argmax(1) == expected.argmax(1).numpy())[clear.numpy()].all()


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_what_peft_does(tmp_path, family):
    """On weights in float32 the same up to the order of sums."""
    model = model_for_llama_cpp(family)
    write_gguf(tmp_path / "base.gguf", model, "F32", "F32", vocabulary=False)
    with_adapter = save_adapter(tmp_path / "adapter", model)
    file = tmp_path / "adapter.gguf"
    weights = write_gguf_adapter(tmp_path / "adapter", file, model.config, "tiny")
    assert weights == sum("lora_A" in name for name, _ in with_adapter.named_parameters())
    without = logits_of(model, TOKENS)
    plain = llama_cpp_logits(tmp_path / "base.gguf", TOKENS)
    assert np.abs(plain - without.numpy()).max() < 1e-3 * float(without.max() - without.min())
    actual = llama_cpp_logits(tmp_path / "base.gguf", TOKENS, file)
    compare(actual, logits_of(with_adapter, TOKENS), without, 1e-3)


def with_weights_of(source, model):
    """Copy the dequantized weights of a GGUF file into a model."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source.read(name))
    return model


def test_on_quantized_weights(tmp_path):
    """llama.cpp rounds activations to 8 bits there, which is what differs."""
    path = tmp_path / "base.gguf"
    write_gguf(path, model_for_llama_cpp("qwen2"), "Q4_1", "Q8_0", vocabulary=False)
    write_gguf(tmp_path / "named.gguf", model_for_llama_cpp("qwen2"), "Q4_1", "Q8_0")
    source = open_source(str(tmp_path / "named.gguf"))
    model = with_weights_of(source, model_for_llama_cpp("qwen2"))
    with_adapter = save_adapter(tmp_path / "adapter", model, size=0.6)
    write_gguf_adapter(tmp_path / "adapter", tmp_path / "a.gguf", model.config, "tiny")
    actual = llama_cpp_logits(path, TOKENS, tmp_path / "a.gguf")
    compare(actual, logits_of(with_adapter, TOKENS), logits_of(model, TOKENS), 2e-2)


@pytest.mark.slow
def test_on_a_real_model(tmp_path):
    """SmolLM2-135M in Q4_1, a file that llama.cpp's own converter wrote; `make soak`: in float32.

    On the same weights in float32 the adapter computes what it does in PyTorch. On the file itself
    llama.cpp rounds activations to 8 bits, with an adapter and without: it is about as far from
    PyTorch either way, and the adapter moves the logits by much more. So it is from PyTorch that
    rounds as well, which is as far from itself when its inputs differ by a millionth.
    """
    if not MODEL.is_file():
        message = "the demo's model is missing (tools/fetch_demo_assets.py)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    source = open_source(str(MODEL))
    model = AutoModelForCausalLM.from_config(source.config, dtype=torch.float32)
    model = with_weights_of(source, model.eval())
    tokens = source_tokens(source, tmp_path)
    with_adapter = save_adapter(tmp_path / "adapter", model, size=0.05)
    write_gguf_adapter(tmp_path / "adapter", tmp_path / "a.gguf", model.config, "smollm2")
    without, expected = logits_of(model, tokens), logits_of(with_adapter, tokens)
    if os.environ.get("TOOLKIT_SOAK"):
        write_gguf(tmp_path / "f32.gguf", model, "F32", "F32", vocabulary=False)
        exact = llama_cpp_logits(tmp_path / "f32.gguf", tokens, tmp_path / "a.gguf")
        compare(exact, expected, without, 1e-3)
        print("float32 weights with the adapter:", of_range(exact - expected.numpy(), expected))
    plain = llama_cpp_logits(MODEL, tokens) - without.numpy()
    error = llama_cpp_logits(MODEL, tokens, tmp_path / "a.gguf") - expected.numpy()
    rounding, off, moved = (
        float(torch.as_tensor(x).square().mean().sqrt()) for x in (plain, error, expected - without)
    )
    print("Q4_1 without the adapter:", of_range(plain, without))
    print("Q4_1 with the adapter:", of_range(error, expected))
    assert off < 2 * rounding < 0.2 * moved, (off, rounding, moved)
    with eight_bit_inputs(with_adapter):
        rounded = logits_of(with_adapter, tokens)
    with eight_bit_inputs(with_adapter, 1 + 1e-6):
        beside = (logits_of(with_adapter, tokens) - rounded).numpy()
    print("with 8 bits in PyTorch, a millionth apart:", of_range(beside, rounded))
    assert off < 2 * np.sqrt((beside**2).mean())


def of_range(error, logits) -> str:
    """Say how far logits are at worst and in the mean square, as a part of their range."""
    span = float(logits.max() - logits.min())
    return f"{np.abs(error).max() / span:.2e} at worst, {np.sqrt((error**2).mean()) / span:.2e} rms"


def source_tokens(source, folder):
    """Return the tokens of two sentences."""
    source.save_tokenizer(folder)
    text = (
        "The history of the lighthouse begins in 1839, when the fishermen of the village asked for "
        "a light. It was built of granite, and its lamp burned oil for forty years."
    )
    return AutoTokenizer.from_pretrained(folder).encode(text)


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 3, "k_proj": 20}},
        {"target_modules": ["k_proj", "down_proj"], "layers_to_transform": [1]},
    ],
    ids=["rslora", "patterns", "one layer"],
)
def test_scales_ranks_and_layers_of_their_own(tmp_path, options):
    model = model_for_llama_cpp("llama")
    write_gguf(tmp_path / "base.gguf", model, "F32", "F32", vocabulary=False)
    with_adapter = save_adapter(tmp_path / "adapter", model, **options)
    write_gguf_adapter(tmp_path / "adapter", tmp_path / "a.gguf", model.config, "tiny")
    actual = llama_cpp_logits(tmp_path / "base.gguf", TOKENS, tmp_path / "a.gguf")
    compare(actual, logits_of(with_adapter, TOKENS), logits_of(model, TOKENS), 1e-3)


def test_what_the_file_says_of_itself(tmp_path):
    model = model_for_llama_cpp("qwen2")
    save_adapter(tmp_path / "adapter", model, base="Qwen/Qwen2.5-0.5B", lora_alpha=7)
    write_gguf_adapter(tmp_path / "adapter", tmp_path / "a.gguf", model.config, "tiny")
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.type"] == "adapter" and fields["adapter.type"] == "lora"
    assert fields["general.architecture"] == "qwen2" and fields["adapter.lora.alpha"] == 7
    assert fields["general.base_model.0.name"] == "tiny"
    assert fields["general.base_model.0.organization"] == "Qwen"
    names = {tensor.name for tensor in reader.tensors}
    assert {"blk.0.attn_q.weight.lora_a", "blk.1.ffn_down.weight.lora_b"} <= names
    assert len(names) == 28


def test_what_cannot_be_written(tmp_path):
    model = model_for_llama_cpp("qwen2")
    save_adapter(tmp_path / "adapter", model)
    with pytest.raises(ToolkitError, match=r"does not end in \.gguf"):
        write_gguf_adapter(tmp_path / "adapter", tmp_path / "a.bin", model.config, "tiny")
    other = tiny_config("qwen2")
    other.intermediate_size = 128
    with pytest.raises(ToolkitError, match="the model needs"):
        write_gguf_adapter(tmp_path / "adapter", tmp_path / "a.gguf", other, "tiny")
    assert list(tmp_path.glob("*a.gguf*")) == []
