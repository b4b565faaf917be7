"""GGUF files against `transformers`' own conversion; blocks of 32 are taken over bit by bit."""

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support.models import tiny_model, write_gguf
from tests.support.tiny import SPECIAL, tiny_config
from toolkit.bundle.layout import base_parts
from toolkit.bundle.weights import choose_schemes, quantize_part
from toolkit.errors import ToolkitError
from toolkit.families import head_dimension
from toolkit.families.rope import plain_rope
from toolkit.quantization.schemes import quantize
from toolkit.sources import open_source


def reference(path):
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    return dict(model.named_parameters())


def plain_model(family, **options):
    """A tiny model without rotary scaling, which GGUF metadata cannot express."""
    config = tiny_config(family, **options)
    config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    return tiny_model(family, config=config)


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


def llama3_factors(config):
    """What llama.cpp's converter writes for the scaling of Llama 3.2, from its description."""
    head_dim = config.hidden_size // config.num_attention_heads
    frequencies = 500000.0 ** (-np.arange(0, head_dim, 2) / head_dim)
    factors = []
    for frequency in frequencies:
        wavelength = 2 * np.pi / frequency
        if wavelength < 8192 / 4:
            factors.append(1.0)
        elif wavelength > 8192:
            factors.append(32.0)
        else:
            smooth = (8192 / wavelength - 1) / 3
            factors.append(1 / ((1 - smooth) / 32 + smooth))
    return np.array(factors)


def rope_model():
    config = tiny_config("llama")
    config.rope_parameters = {"rope_type": "default", "rope_theta": 500000.0}
    return tiny_model("llama", config=config)


def test_llama3_scaling_is_restored(tmp_path):
    model = rope_model()
    write_gguf(tmp_path / "tiny.gguf", model, rope_freqs=llama3_factors(model.config))
    rope = open_source(str(tmp_path / "tiny.gguf")).config.rope_parameters
    assert rope == {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def test_unknown_scaling_is_refused(tmp_path):
    model = rope_model()
    write_gguf(tmp_path / "tiny.gguf", model, rope_freqs=llama3_factors(model.config) * 1.5)
    with pytest.raises(ToolkitError, match="rotary"):
        open_source(str(tmp_path / "tiny.gguf"))


def test_two_scalings_at_once_are_refused(tmp_path):
    model = rope_model()
    factors = llama3_factors(model.config)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, model, rope_freqs=factors, metadata={"rope.scaling.factor": 4.0})
    with pytest.raises(ToolkitError, match=r"rope_freqs.*beside its scaling 'linear'"):
        open_source(str(path))


def inverse_frequencies(config):
    rope = plain_rope(config)
    return rope.inv_freq.double().numpy(), rope.scaling


@pytest.mark.parametrize(
    "keys",
    [
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        {"rope.scaling.factor": 4.0},  # linear is the default
        {"rope.scale_linear": 4.0},  # the name of 2023
    ],
)
@pytest.mark.parametrize("family", ["llama", "qwen2", "smollm3", "granite"])
def test_linear_scaling_divides_positions(tmp_path, family, keys):
    path = tmp_path / "tiny.gguf"
    model = plain_model(family, layers=4)
    write_gguf(path, model, metadata=keys)
    config = open_source(str(path)).config
    expected, _ = inverse_frequencies(model.config)
    actual, scaling = inverse_frequencies(config)
    assert scaling == 1
    np.testing.assert_allclose(actual, expected / 4, rtol=1e-6)


def llama_cpp_yarn(head_dim, base, factor, context, fast=32.0, slow=1.0):
    """What ggml's rope computes for YaRN: inverse frequencies and the factor on cos and sin."""
    pairs = np.arange(head_dim // 2)
    plain = base ** (-2.0 * pairs / head_dim)

    def turned(rotations):
        return head_dim * np.log(context / (rotations * 2 * np.pi)) / (2 * np.log(base))

    low, high = max(0.0, np.floor(turned(fast))), min(head_dim - 1.0, np.ceil(turned(slow)))
    kept = 1 - np.clip((pairs - low) / max(0.001, high - low), 0, 1)
    return plain / factor * (1 - kept) + plain * kept, 1 + 0.1 * np.log(factor)


@pytest.mark.parametrize(
    ("family", "more", "own"),
    [
        ("llama", {"rope.scaling.original_context_length": 64}, {"context": 64}),
        ("qwen2", {"rope.scaling.original_context_length": 32, "rope.scaling.attn_factor": 1.0},
         {"context": 32}),
        ("smollm3", {}, {}),
        ("llama", {"rope.scaling.yarn_beta_fast": 8.0, "rope.scaling.yarn_beta_slow": 2.0,
                   "rope.scaling.yarn_ext_factor": 1.0}, {"fast": 8.0, "slow": 2.0}),
    ],
)  # fmt: skip
def test_yarn_is_llama_cpps(tmp_path, family, more, own):
    path = tmp_path / "tiny.gguf"
    model = plain_model(family, layers=4)
    keys = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, **more}
    write_gguf(path, model, metadata=keys)
    config = open_source(str(path)).config
    own = {"context": model.config.max_position_embeddings, **own}
    expected, factor = llama_cpp_yarn(head_dimension(config), 10000.0, 4.0, **own)
    actual, scaling = inverse_frequencies(config)
    assert scaling == pytest.approx(factor, rel=1e-6)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    plain, _ = inverse_frequencies(model.config)
    assert np.abs(actual / plain - 1).max() > 0.1


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"rope.scaling.type": "longrope"}, "scaling 'longrope' is not supported"),
        ({"rope.scaling.type": "dynamic"}, "scaling 'dynamic' is not supported"),
        ({"rope.scaling.type": "yarn"}, r"lacks llama\.rope\.scaling\.factor"),
        ({"rope.scaling.attn_factor": 1.25}, r"rope\.scaling\.attn_factor=1\.25"),
        ({"rope.scaling.yarn_log_multiplier": 0.5}, r"yarn_log_multiplier=0\.5"),
        ({"rope.scaling.yarn_ext_factor": 0.5}, r"yarn_ext_factor=0\.5"),
        ({"rope.freq_base_swa": 1e4}, r"rope\.freq_base_swa=10000"),
        ({"rope.dimension_count": 4}, r"rope\.dimension_count=4 .* width of a head, 16"),
        ({"attention.value_length": 32}, r"value_length=32 .* width of a head, 16"),
        ({"expert_count": 8}, r"llama\.expert_count=8 is not supported"),
    ],
)
def test_what_turns_otherwise_is_refused_by_name(tmp_path, keys, named):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, plain_model("llama"), metadata=keys)
    with pytest.raises(ToolkitError, match=named):
        open_source(str(path))


def test_keys_that_change_nothing_are_taken(tmp_path):
    path = tmp_path / "tiny.gguf"
    keys = {
        "rope.scaling.type": "none", "rope.scaling.factor": 4.0, "rope.scaling.attn_factor": 1.0,
        "rope.scaling.finetuned": False, "expert_count": 0, "rope.dimension_count": 16,
    }  # fmt: skip
    write_gguf(path, plain_model("llama"), metadata=keys)
    expected = {"rope_type": "default", "rope_theta": 10000.0}
    assert open_source(str(path)).config.rope_parameters == expected


def test_a_granite_without_rotary_positions_is_refused(tmp_path):
    path = tmp_path / "tiny.gguf"
    model = plain_model("granite")
    write_gguf(path, model, metadata={"rope.scaling.finetuned": True})
    open_source(str(path))
    write_gguf(path, model, metadata={"rope.scaling.finetuned": False})
    with pytest.raises(ToolkitError, match="finetuned=False is not supported"):
        open_source(str(path))


REQUIRED = [
    "context_length", "block_count", "embedding_length", "feed_forward_length",
    "attention.head_count", "attention.layer_norm_rms_epsilon",
]  # fmt: skip
GRANITE = ["attention.scale", "embedding_scale", "residual_scale", "logit_scale"]


@pytest.mark.parametrize(
    ("family", "key"),
    [(family, key) for family in ("llama", "qwen2", "smollm3") for key in REQUIRED]
    + [("granite", key) for key in GRANITE],
)
def test_what_a_file_lacks_is_named(tmp_path, family, key):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, plain_model(family), metadata={key: None})
    with pytest.raises(ToolkitError, match=rf"lacks {family}\.{key}, which has no default"):
        open_source(str(path))


@pytest.mark.parametrize("family", ["llama", "qwen2", "smollm3", "granite"])
def test_defaults_are_llama_cpps(tmp_path, family):
    """As many kv heads as heads, a base of 10000, a vocabulary as long as the list of tokens."""
    path = tmp_path / "tiny.gguf"
    config = tiny_config(family)
    config.num_key_value_heads = config.num_attention_heads
    config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    model = tiny_model(family, config=config)
    keys = ("attention.head_count_kv", "rope.freq_base", "vocab_size")
    write_gguf(path, model, metadata=dict.fromkeys(keys))
    source = open_source(str(path))
    for name in ("num_key_value_heads", "rope_parameters", "vocab_size"):
        assert getattr(source.config, name) == getattr(config, name), name
    for part in base_parts(source.config):
        assert source.shape(part.source) == tuple(model.get_parameter(part.source).shape)


def test_layers_of_several_shapes_are_refused(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, plain_model("llama"), metadata={"attention.head_count_kv": [2, 1]})
    with pytest.raises(ToolkitError, match=r"head_count_kv .* no single number: \[2, 1\]"):
        open_source(str(path))


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
    with pytest.raises(ToolkitError, match=r"'gemma2' is not supported.*llama, qwen2"):
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


@pytest.mark.parametrize("family", ["smollm3", "granite"])
@pytest.mark.parametrize(
    ("linear", "embedding"), [("Q4_0", "Q4_1"), ("Q4_1", "Q8_0"), ("Q8_0", "Q4_0")]
)
def test_families_that_transformers_does_not_read(tmp_path, family, linear, embedding):
    """Configuration and names come from the file's metadata; blocks are taken over bit by bit."""
    config = tiny_config(family, layers=4)
    if family == "smollm3":
        config.no_rope_layers = [1, 1, 1, 0]  # what llama.cpp takes for granted
    model = tiny_model(family, config=config)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, model, linear, embedding)
    source = open_source(str(path))
    fields = ["no_rope_layers"] if family == "smollm3" else list(SPECIAL["granite"])
    for name in (*fields, "rms_norm_eps", "vocab_size", "num_key_value_heads"):
        expected = pytest.approx(getattr(config, name), rel=1e-6)  # float32 in the file
        assert getattr(source.config, name) == expected, name
    assert source.config.rope_parameters == config.rope_parameters
    parts = base_parts(source.config)
    assert [part.source for part in parts] == [part.source for part in base_parts(config)]
    schemes = choose_schemes(source, parts, "auto", "auto")
    values = dict(model.named_parameters())
    for part in parts:
        value = values[part.source].detach()
        if part.kind == "vector":
            assert torch.equal(source.read(part.source), value), part.source
            continue
        kind = gguf.GGMLQuantizationType[linear if part.kind == "linear" else embedding]
        stored = gguf.quants.quantize(value.numpy(), kind)
        expected = torch.from_numpy(gguf.quants.dequantize(stored, kind).copy())
        quantized, entry = quantize_part(source, part, schemes[part.kind])
        assert entry.taken_over and entry.relative_error == 0
        assert torch.equal(quantized.dequantize()[: len(value)], expected), part.source
