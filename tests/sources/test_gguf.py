"""GGUF files against `transformers`' own conversion; blocks of 32 are taken over bit by bit."""

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.integrations.gguf.dequant import dequantize

from tests.support.models import (
    plain_model,
    stored_config,
    stored_name,
    tiny_model,
    write_gguf,
)
from tests.support.tiny import SPECIAL
from toolkit.bundle.layout import base_parts
from toolkit.bundle.weights import choose_schemes, quantize_part
from toolkit.errors import ToolkitError
from toolkit.quantization.schemes import quantize
from toolkit.sources import open_source


def reference(path):
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    return dict(model.named_parameters())


@pytest.mark.parametrize(
    ("family", "tied", "linear", "embedding"),
    [
        ("llama", True, "Q4_1", "Q8_0"),
        ("llama", False, "Q4_0", "Q4_0"),
        ("qwen2", True, "Q8_0", "Q4_1"),
        ("qwen2", False, "Q5_1", "F16"),
        ("llama", True, "BF16", "Q5_0"),
    ],
)
def test_values_equal_the_conversion_of_transformers(tmp_path, family, tied, linear, embedding):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, plain_model(family, tied=tied), linear, embedding)
    source = open_source(str(path))
    assert source.license == "mit"
    assert source.config.tie_word_embeddings == tied
    parts = base_parts(source.config)
    schemes = choose_schemes(source, parts, "auto", "auto")
    expected = reference(path)
    assert {part.source for part in parts} == set(expected)
    for part in parts:
        value = expected[part.source]
        assert source.shape(part.source) == tuple(value.shape)
        assert torch.equal(source.read(part.source), value), part.source
        if part.kind == "vector":
            continue
        assert torch.equal(source.rows(part.source, 16, 32), value[16:32]), part.source
        quantized, entry = quantize_part(source, part, schemes[part.kind])
        got = quantized.dequantize()[: part.shape[0]]
        kind = linear if part.kind == "linear" else embedding
        assert entry.taken_over == (kind in ("Q4_0", "Q4_1", "Q8_0"))
        if entry.taken_over:
            assert entry.relative_error == 0
            assert torch.equal(got, value), part.source
        else:
            error = ((got - value).norm() / value.norm()).item()
            assert entry.relative_error == pytest.approx(error, rel=1e-4)
            assert torch.equal(got, quantize(value, schemes[part.kind]).dequantize()[: len(value)])


@pytest.mark.parametrize(
    ("linear", "embedding", "expected"),
    [
        ("Q4_0", "Q8_0", ("int4-symmetric", "int8")),
        ("Q4_1", "Q4_0", ("int4", "int4-symmetric")),
        ("Q8_0", "Q4_1", ("int8", "int4")),
        ("F16", "F16", ("int4", "int8")),
    ],
)
def test_auto_keeps_what_the_file_has(tmp_path, linear, embedding, expected):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, plain_model("llama"), linear, embedding)
    source = open_source(str(path))
    schemes = choose_schemes(source, base_parts(source.config), "auto", "auto")
    assert (schemes["linear"], schemes["embedding"]) == expected
    assert schemes["head"] == schemes["embedding"]


def test_mixed_blocks_share_one_scheme(tmp_path):
    """Q4_0 beside Q4_1 becomes affine without loss; a Q8_0 among them is quantized again."""
    path = tmp_path / "tiny.gguf"
    kinds = {"blk.0.attn_v.weight": "Q4_0", "blk.1.ffn_down.weight": "Q8_0"}
    write_gguf(path, plain_model("llama"), "Q4_1", "Q8_0", kinds)
    source = open_source(str(path))
    parts = base_parts(source.config)
    schemes = choose_schemes(source, parts, "auto", "auto")
    assert schemes["linear"] == "int4"
    expected = reference(path)
    for part in parts:
        if part.kind != "linear":
            continue
        quantized, entry = quantize_part(source, part, "int4")
        is_again = part.key == "layers.1.mlp.down_proj"
        assert entry.taken_over == (not is_again)
        assert torch.equal(quantized.dequantize(), expected[part.source]) == (not is_again)
        assert (0.01 < entry.relative_error < 0.15) == is_again


def test_another_scheme_on_request(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, plain_model("llama"), "Q4_1", "Q8_0")
    source = open_source(str(path))
    part = base_parts(source.config)[2]
    assert part.kind == "linear"
    for scheme in ("int8", "int4-symmetric"):
        quantized, entry = quantize_part(source, part, scheme)
        assert not entry.taken_over and 0 < entry.relative_error < 0.15
        assert torch.equal(quantized.codes, quantize(source.read(part.source), scheme).codes)


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_blocks_of_256_are_expanded_and_quantized_again(tmp_path, kind):
    """As another implementation expands them, with the error of the second quantization said."""
    config = stored_config("qwen3")
    config.hidden_size = config.intermediate_size = 256
    config.head_dim = 64
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny_model("qwen3", config=config), kind, "Q6_K")
    source = open_source(str(path))
    parts = base_parts(source.config)
    schemes = choose_schemes(source, parts, "auto", "auto")
    assert schemes == {"linear": "int4", "embedding": "int8", "head": "int8"}
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    matrices = [part for part in parts if part.kind != "vector"]
    for part in matrices:
        tensor = stored[stored_name(part.source)]
        bits = torch.from_numpy(tensor.data.copy()).reshape(part.shape[0], -1)
        expected = dequantize(bits, tensor.tensor_type.value).reshape(part.shape)
        values = source.read(part.source)
        assert torch.allclose(values, expected, rtol=1e-6, atol=1e-8) and values.any(), part.source
        quantized, entry = quantize_part(source, part, schemes[part.kind])
        error = ((quantized.dequantize()[: len(values)] - values).norm() / values.norm()).item()
        assert entry.relative_error == pytest.approx(error, rel=1e-4) and not entry.taken_over
        assert 0 < error < (0.1 if part.kind == "linear" else 0.01), part.source


def test_damaged_files(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, plain_model("llama"))
    good = path.read_bytes()
    for length in (0, 3, 100, 5000, len(good) - 2000):
        path.write_bytes(good[:length])
        with pytest.raises(ToolkitError):
            open_source(str(path))


def test_other_families_are_refused_by_name(tmp_path):

    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "gemma2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ToolkitError, match=r"'gemma2' is not supported.*llama, .*qwen2"):
        open_source(str(path))


def test_infinite_scale_is_refused(tmp_path):
    path = tmp_path / "tiny.gguf"
    model = plain_model("llama")
    write_gguf(path, model, "Q4_1", "Q8_0")
    source = open_source(str(path))
    name = "model.layers.0.mlp.gate_proj.weight"
    offset = source._entry(name)[2]
    data = bytearray(path.read_bytes())
    data[offset : offset + 2] = np.float16(np.inf).tobytes()
    path.write_bytes(data)
    with pytest.raises(ToolkitError, match="not finite"):
        source.take_over(name, 0, 16, "int4")


@pytest.mark.parametrize(
    ("family", "linear", "embedding"),
    [
        ("smollm3", "Q4_0", "Q4_1"),
        ("smollm3", "Q8_0", "Q4_0"),
        ("granite", "Q4_1", "Q8_0"),
        ("granite", "Q4_0", "Q4_0"),
        ("qwen3", "Q8_0", "Q4_1"),
        ("olmo2", "Q4_1", "Q8_0"),
        ("phi3", "Q4_0", "Q8_0"),
        ("phi3", "Q4_1", "Q4_0"),
        ("gemma3_text", "Q4_0", "Q8_0"),
        ("gemma3_text", "Q8_0", "Q4_1"),
    ],
)
def test_families_whose_values_transformers_does_not_give(tmp_path, family, linear, embedding):
    """Configuration and names come from the file's metadata; blocks are taken over bit by bit."""
    config = stored_config(family, layers=4)
    if family == "phi3" and linear == "Q4_0":
        own = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
        config.rope_parameters, config.sliding_window = own, 3
    model = tiny_model(family, config=config)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, model, linear, embedding)
    source = open_source(str(path))
    fields = set(SPECIAL.get(family, {})) - {"original_max_position_embeddings"}
    for name in (*sorted(fields), "rms_norm_eps", "vocab_size", "num_key_value_heads"):
        assert getattr(source.config, name) == getattr(config, name), name
    parts = base_parts(source.config)
    assert [part.source for part in parts] == [part.source for part in base_parts(config)]
    schemes = choose_schemes(source, parts, "auto", "auto")
    values = dict(model.named_parameters())
    for part in parts:
        value = values[part.source].detach()
        if part.kind == "vector":
            # The file has the sum, rounded, where the family's norms multiply with one.
            assert torch.equal(source.read(part.source) + part.offset, value + part.offset)
            continue
        kind = gguf.GGMLQuantizationType[linear if part.kind == "linear" else embedding]
        stored = gguf.quants.quantize(value.numpy(), kind)
        expected = torch.from_numpy(gguf.quants.dequantize(stored, kind).copy())
        quantized, entry = quantize_part(source, part, schemes[part.kind])
        assert entry.taken_over and entry.relative_error == 0
        assert torch.equal(quantized.dequantize()[: len(value)], expected), part.source
