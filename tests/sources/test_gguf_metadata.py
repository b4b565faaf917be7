"""Shapes and rotary scaling of GGUF files: as llama.cpp reads them, or refused by name."""

import numpy as np
import pytest

from tests.support.models import (
    LLAMA_3_2,
    llama3_factors,
    plain_model,
    stored_config,
    tiny_model,
    write_gguf,
)
from tests.support.tiny import tiny_config
from toolkit.bundle.layout import base_parts
from toolkit.errors import ToolkitError
from toolkit.families import family_of, head_dimension
from toolkit.families.rope import plain_rope
from toolkit.sources import open_source


def rope_model():
    config = tiny_config("llama")
    config.rope_parameters = {"rope_type": "default", "rope_theta": 500000.0}
    return tiny_model("llama", config=config)


def test_llama3_scaling_is_restored(tmp_path):
    model = rope_model()
    write_gguf(tmp_path / "tiny.gguf", model, rope_freqs=llama3_factors(LLAMA_3_2, 16))
    assert open_source(str(tmp_path / "tiny.gguf")).config.rope_parameters == LLAMA_3_2


def test_unknown_scaling_is_refused(tmp_path):
    model = rope_model()
    write_gguf(tmp_path / "tiny.gguf", model, rope_freqs=llama3_factors(LLAMA_3_2, 16) * 1.5)
    with pytest.raises(ToolkitError, match="rotary"):
        open_source(str(tmp_path / "tiny.gguf"))


def test_two_scalings_at_once_are_refused(tmp_path):
    model = rope_model()
    factors = llama3_factors(LLAMA_3_2, 16)
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
@pytest.mark.parametrize("family", ["llama", "qwen2", "smollm3", "granite", "qwen3", "olmo2"])
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
        ({"attention.sliding_window": 64}, r"llama\.attention\.sliding_window=64 is not"),
        ({"attention.sliding_window_pattern": 4}, "sliding_window_pattern=4 is not supported"),
        ({"attention.scale": 0.5}, r"attention\.scale=0\.5 is not supported"),
        ({"final_logit_softcapping": 30.0}, r"final_logit_softcapping=30\.0 is not supported"),
        ({"logit_scale": 16.0}, r"logit_scale=16\.0 is not supported"),
        ({"attention.causal": False}, r"attention\.causal=False is not supported"),
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
        "attention.sliding_window": 256, "logit_scale": 1.0, "final_logit_softcapping": 0.0,
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
    [
        (family, key)
        for family in ("llama", "qwen2", "smollm3", "qwen3", "olmo2")
        for key in REQUIRED
    ]
    + [("granite", key) for key in GRANITE]
    + [("phi3", "attention.sliding_window")],
)
def test_what_a_file_lacks_is_named(tmp_path, family, key):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, plain_model(family), metadata={key: None})
    with pytest.raises(ToolkitError, match=rf"lacks {family}\.{key}, which has no default"):
        open_source(str(path))


@pytest.mark.parametrize("family", ["llama", "qwen2", "smollm3", "granite", "qwen3", "olmo2"])
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


def gemma(tmp_path, layers=6, **metadata):
    """A file of a model that has nothing but what llama.cpp takes for granted."""
    config = stored_config("gemma3_text", layers=layers)
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    config.layer_types = (kinds * layers)[:layers]
    config.rope_parameters["sliding_attention"]["rope_theta"] = 10000.0
    path = tmp_path / "tiny.gguf"
    keys = dict.fromkeys(("attention.sliding_window_pattern", "rope.freq_base_swa"))
    write_gguf(path, tiny_model("gemma3_text", config=config), metadata={**keys, **metadata})
    return config, path


@pytest.mark.parametrize("pattern", [{}, {"attention.sliding_window_pattern": 6}])
def test_gemmas_defaults_are_llama_cpps(tmp_path, pattern):
    config, path = gemma(tmp_path, layers=7, **pattern)
    found = open_source(str(path)).config
    assert found.layer_types == config.layer_types
    assert found.rope_parameters == config.rope_parameters
    assert found.query_pre_attn_scalar == config.head_dim != config.hidden_size // 4
    assert found.sliding_window == config.sliding_window


def test_the_largest_gemma_scales_by_its_width(tmp_path):
    _, path = gemma(tmp_path, layers=62)
    assert open_source(str(path)).config.query_pre_attn_scalar == 64 // 4


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"attention.sliding_window": None}, r"lacks gemma3\.attention\.sliding_window"),
        ({"attention.sliding_window": 0}, r"gemma3\.attention\.sliding_window=0"),
        ({"attention.sliding_window_pattern": 0}, "with the pattern 0"),
        ({"attention.sliding_window_pattern": [True]}, r"the pattern \[True\] of 6 layers"),
        ({"final_logit_softcapping": 30.0}, r"final_logit_softcapping=30\.0"),
        (
            {"rope.scaling.type": "longrope"},
            "'longrope' is not supported.*linear, yarn, no scaling",
        ),
    ],
)
def test_what_gemma_does_not_compute_is_refused(tmp_path, keys, named):
    _, path = gemma(tmp_path, **keys)
    with pytest.raises(ToolkitError, match=named):
        open_source(str(path))


def test_llama3_factors_of_gemma_are_refused(tmp_path):
    config = stored_config("gemma3_text")
    model = tiny_model("gemma3_text", config=config)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, model, rope_freqs=np.ones(24))
    open_source(str(path))
    write_gguf(path, model, rope_freqs=np.full(24, 2.0))
    with pytest.raises(ToolkitError, match=r"rotary factors \(rope_freqs\).*not supported"):
        open_source(str(path))


def test_longropes_factor_on_cos_and_sin_is_the_files(tmp_path):
    config = stored_config("phi3")
    model = tiny_model("phi3", config=config)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, model)
    found = open_source(str(path)).config.rope_parameters
    assert found == config.rope_parameters and "attention_factor" not in found
    write_gguf(path, model, metadata={"rope.scaling.attn_factor": 1.25})
    source = open_source(str(path))
    assert source.config.rope_parameters["attention_factor"] == 1.25
    assert family_of(source.config).ropes(source.config)["rope"].scaling == 1.25


@pytest.mark.parametrize(
    ("change", "metadata", "named"),
    [
        ({"short_factor": [1.0] * 5}, {}, r"rope_factors_short\.weight with 6 factors.*has 5"),
        ({"long_factor": [1.0] * 7}, {}, r"rope_factors_long\.weight with 6 factors.*has 7"),
        ({}, {"rope.scaling.attn_factor": None}, r"lacks phi3\.rope\.scaling\.attn_factor"),
        ({}, {"rope.scaling.factor": 4.0}, r"phi3\.rope\.scaling\.factor=4\.0"),
        ({}, {"rope.dimension_count": 20}, r"dimension_count=20 .* width of a head, 16"),
        (None, {"rope.scaling.type": "longrope"}, r"longrope and needs rope_factors_short.*none"),
        (None, {"rope.scaling.factor": 4.0}, "'linear' is not supported.*longrope, no scaling"),
    ],
)
def test_longrope_that_is_not_whole_is_refused(tmp_path, change, metadata, named):
    config = stored_config("phi3")
    if change is None:
        config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    model = tiny_model("phi3", config=config)
    model.config.rope_parameters = {**model.config.rope_parameters, **(change or {})}
    path = tmp_path / "tiny.gguf"
    write_gguf(path, model, metadata=metadata)
    with pytest.raises(ToolkitError, match=named):
        open_source(str(path))


def test_layers_of_several_shapes_are_refused(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, plain_model("llama"), metadata={"attention.head_count_kv": [2, 1]})
    with pytest.raises(ToolkitError, match=r"head_count_kv .* no single number: \[2, 1\]"):
        open_source(str(path))
