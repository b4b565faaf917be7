"""What a model has and our operators do not compute is refused by name, never left out."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import AutoConfig

from tests.support.tiny import tiny_config
from toolkit.errors import ToolkitError
from toolkit.families import FAMILIES, Family, family_of
from toolkit.families.features import NEUTRAL
from toolkit.families.parts import attention, gated_mlp, rms_norm
from toolkit.families.rope import plain_rope
from toolkit.lora import LoraSettings
from toolkit.programs import program_functions
from toolkit.programs.coverage import check_whole_model
from toolkit.programs.lower import trace

SCHEMES = {"linear": "int4", "embedding": "int8", "head": "int8"}
LORA = LoraSettings(2, 4.0, ("q_proj",))
# Architectures, and the first thing of each that a family of plain parts does not compute.
OTHERS = {
    "qwen3": ("Qwen3", r"layers\.0\.self_attn\.q_norm\.weight is not covered by .* 'qwen3'"),
    "gemma": ("Gemma", r"hidden_act='gelu_pytorch_tanh' is not supported"),
    "gemma2": ("Gemma2", r"attn_logit_softcapping=50\.0 is not supported"),
    "olmo2": ("Olmo2", r"layers\.0\.self_attn\.q_norm\.weight is not covered"),
    "glm": ("Glm", r"has no layers\.0\.mlp\.gate_proj that is a Linear"),
    "phi3": ("Phi3", r"has no layers\.0\.self_attn\.q_proj"),
    "starcoder2": ("Starcoder2", r"hidden_act='gelu_pytorch_tanh' is not supported"),
}


def functions(config):
    return program_functions(config, seq_len=8, lora=LORA, lowering="mesp", schemes=SCHEMES)


@pytest.mark.parametrize("model_type", OTHERS)
def test_other_architectures_are_refused_even_when_named_as_a_family(monkeypatch, model_type):
    prefix, message = OTHERS[model_type]
    place = f"transformers.models.{model_type}.modeling_{model_type}"
    kinds = {"Attention": attention, "MLP": gated_mlp, "RMSNorm": rms_norm}
    family = Family(
        model_type,
        place,
        f"{prefix}DecoderLayer",
        {f"{prefix}{name}": reader for name, reader in kinds.items()},
    )
    monkeypatch.setitem(FAMILIES, model_type, family)
    sizes = tiny_config("qwen2").to_dict()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    names += ("num_key_value_heads", "vocab_size")
    kept = {name: sizes[name] for name in names}
    config = AutoConfig.for_model(model_type, **kept, head_dim=16, pad_token_id=0)
    with pytest.raises(ToolkitError, match=message):
        functions(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda layer: setattr(layer, "input_layernorm", nn.LayerNorm(64)),
            r"layers\.0\.input_layernorm\.weight is not covered",
        ),
        (
            lambda layer: delattr(layer.input_layernorm, "variance_epsilon"),
            r"layers\.0\.input_layernorm of the family 'llama' is not an RMSNorm",
        ),
        (lambda layer: setattr(layer.mlp, "up_proj", nn.Identity()), "no layers.0.mlp.up_proj"),
    ],
)
def test_parts_that_compute_something_else_are_refused(monkeypatch, change, message):
    def changed(self, config, index=0):
        layer = plain(self, config, index)
        change(layer)
        return layer

    plain = Family.decoder_layer
    monkeypatch.setattr(Family, "decoder_layer", changed)
    with pytest.raises(ToolkitError, match=message):
        functions(tiny_config("llama"))


def test_a_parameter_added_to_the_layer_is_named(monkeypatch):
    def with_extra(self, config, index=0):
        layer = plain(self, config, index)
        layer.gate = nn.Parameter(torch.empty(1, device="meta"))
        return layer

    plain = Family.decoder_layer
    monkeypatch.setattr(Family, "decoder_layer", with_extra)
    with pytest.raises(
        ToolkitError, match=r"^layers\.0\.gate is not covered by the family 'llama'"
    ):
        functions(tiny_config("llama"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("place", ["self_attn", "mlp"])
@pytest.mark.parametrize("kind", ["parameter", "buffer"])
def test_what_is_added_to_any_layers_modules_is_named(monkeypatch, family, place, kind):
    def with_extra(self, config, index=0):
        layer = plain(self, config, index)
        if index == 1:
            module, value = layer.get_submodule(place), torch.empty(4, device="meta")
            if kind == "parameter":
                module.register_parameter("sinks", nn.Parameter(value))
            else:
                module.register_buffer("sinks", value)
        return layer

    plain = Family.decoder_layer
    monkeypatch.setattr(Family, "decoder_layer", with_extra)
    with pytest.raises(ToolkitError, match=rf"^layers\.1\.{place}\.sinks is not covered"):
        functions(tiny_config(family))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("missing", ["lm_head.weight", "model.norm.weight"])
def test_the_whole_model_is_covered(family, missing):
    from toolkit.bundle.layout import parameter_shapes

    config = tiny_config(family, tied=False)
    covered = set(parameter_shapes(config))
    check_whole_model(config, covered)
    with pytest.raises(ToolkitError, match=rf"^{missing.removeprefix('model.')} is not covered"):
        check_whole_model(config, covered - {missing})


def test_a_weight_that_a_forward_does_not_read_is_named():
    forward = next(f for f in functions(tiny_config("llama")) if f.name == "block_forward")
    names = [binding.name for binding in forward.inputs]
    place = names.index("base:layers.{layer}.input_layernorm.weight")

    def without_the_norm(*inputs):
        ones = torch.ones(forward.inputs[place].shape)
        return forward.call(*inputs[:place], ones, *inputs[place + 1 :])

    with pytest.raises(ToolkitError, match=r"input_layernorm\.weight is not read by block_forward"):
        trace(replace(forward, call=without_the_norm))


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("llama", {"mlp_bias": True}, "mlp_bias=True"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ("llama", {"attention_dropout": 0.1}, "attention_dropout=0.1"),
        ("llama", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
        ("llama", {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
        ("llama", {"logits_scaling": 8.0}, "logits_scaling=8.0"),
        ("llama", {"embedding_multiplier": 12.0}, "embedding_multiplier=12.0"),
        ("llama", {"residual_multiplier": 0.2}, "residual_multiplier=0.2"),
        ("llama", {"attention_multiplier": 0.1}, "attention_multiplier=0.1"),
        ("llama", {"use_qk_norm": True}, "use_qk_norm=True"),
        (
            "qwen2",
            {
                "layer_types": ["full_attention", "sliding_attention"],
                "sliding_window": 128,
                "use_sliding_window": True,
            },
            "sliding window of 128 tokens",
        ),
        ("qwen2", {"layer_types": ["linear_attention"] * 2}, "'linear_attention'"),
        ("gemma3_text", {"layer_types": ["chunked_attention"] * 2}, "'chunked_attention'"),
        ("gemma3_text", {"sliding_window": None}, "sliding_window=None is not supported"),
    ],
)
def test_features_are_refused_by_name(family, changes, message):
    config = tiny_config(family)
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(ToolkitError, match=message):
        family_of(config)


def test_another_activation_of_gemma_is_refused_by_name():
    config = tiny_config("gemma3_text")
    config.hidden_activation = "gelu"
    with pytest.raises(ToolkitError, match=r"hidden_activation='gelu' is not supported"):
        functions(config)


def test_a_layer_that_cannot_be_built_is_one_clear_message():
    config = tiny_config("qwen3")
    config.layer_types = config.layer_types[:1]
    with pytest.raises(
        ToolkitError, match="cannot build layer 1 of the family 'qwen3': list index"
    ):
        FAMILIES["qwen3"].block_kinds(config)


def test_features_that_change_nothing_are_accepted():
    """As Qwen2's and Llama's published configurations have them."""
    config = tiny_config("qwen2")
    config.use_sliding_window = True  # of layers from max_window_layers on: there are none
    config.sliding_window = 16
    config.layer_types = ["full_attention"] * 2
    assert family_of(config).model_type == "qwen2"
    config.layer_types = ["sliding_attention"] * 2
    config.sliding_window = config.max_position_embeddings  # as far as it reaches anyway
    assert family_of(config).model_type == "qwen2"
    llama = tiny_config("llama")
    llama.pretraining_tp = 2  # splits the products of another implementation, not the result
    llama.logits_scaling = 1.0
    assert family_of(llama).model_type == "llama"


def test_every_field_of_the_configurations_is_known():
    """A `transformers` that adds a field to a family's configuration must be looked at."""
    shape = {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"}
    shape |= {"num_attention_heads", "num_key_value_heads", "head_dim"}
    read = {"rms_norm_eps", "rope_parameters", "max_position_embeddings", "tie_word_embeddings"}
    read |= {"attention_bias", "layer_types", "sliding_window", "no_rope_layer_interval", *NEUTRAL}
    # Phi-3's longrope, and Gemma's name of `hidden_act`.
    read |= {"original_max_position_embeddings", "hidden_activation"}
    # Of generation, initialization or other implementations; `use_sliding_window` and
    # `max_window_layers` are what `layer_types` is made from.
    no_part = {"initializer_range", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id"}
    no_part |= {"pretraining_tp", "use_sliding_window", "max_window_layers"}
    for family in FAMILIES:
        fields = set(type(tiny_config(family)).__annotations__)
        assert fields and fields <= shape | read | no_part, fields - shape - read - no_part


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, "'dynamic' is not supported"),
        ({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}, "0.5"),
        ({"full_attention": {"rope_type": "default", "rope_theta": 1e4}}, "full_attention"),
    ],
)
def test_other_rotations_are_refused(parameters, message):
    config = tiny_config("qwen2")
    config.rope_parameters = parameters
    with pytest.raises(ToolkitError, match=message):
        plain_rope(config)


def test_biases_of_attention_are_inputs():
    """`attention_bias` of a Llama adds four biases, o_proj's among them: each has a binding."""
    config = tiny_config("llama")
    config.attention_bias = True
    forward = next(f for f in functions(config) if f.name == "block_forward")
    names = {binding.name for binding in forward.inputs}
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        assert f"base:layers.{{layer}}.self_attn.{name}.bias" in names
    trace(forward)
