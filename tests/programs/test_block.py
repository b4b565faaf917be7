"""A lowered block against the transformers layer it comes from."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from tests.support.tiny import relative_error, tiny_config
from toolkit.families import family_of
from toolkit.lora import PROJECTIONS, LoraSettings
from toolkit.oracle.approximate import approximate_activations
from toolkit.programs import program_functions
from toolkit.quantization.schemes import quantize

T = 13
START = [0] * 5 + [5] * 8
POSITIONS = [*range(5), *range(8)]
SCHEMES = {"linear": "int4", "embedding": "int8", "head": "int8"}
# The layer's norm computes in float32 whatever its input: a few epsilons of float32.
TOLERANCE = 2e-6


class _Lora(nn.Module):
    def __init__(self, base: nn.Linear, rank: int, scaling: float) -> None:
        super().__init__()
        self.base, self.scaling = base, scaling
        self.lora_A = nn.Parameter(torch.randn(rank, base.in_features) * 0.1)
        self.lora_B = nn.Parameter(torch.randn(base.out_features, rank) * 0.1)

    def forward(self, x):
        return self.base(x) + self.scaling * (x @ self.lora_A.T) @ self.lora_B.T


def _reference_layer(config, lora: LoraSettings, index: int):
    """The original layer in float64, with dequantized weights, and its tensors by binding name."""
    config._attn_implementation = "eager"
    layer_class = type(family_of(config).decoder_layer(config))
    layer = layer_class(config, index).double().eval()
    tensors = {}
    for name, parameter in layer.named_parameters():
        nn.init.normal_(parameter, std=0.1)
        key = f"base:layers.{{layer}}.{name}"
        if name.endswith("_proj.weight"):
            quantized = quantize(parameter.data.float(), SCHEMES["linear"])
            parameter.data = quantized.dequantize(torch.float64)
            for part in ("codes", "scale", "offset"):
                tensors[key.replace("weight", part)] = getattr(quantized, part)
        else:
            parameter.data = parameter.data.float().double()
            offset = family_of(config).norm_offset if "norm" in name else 0
            tensors[key] = parameter.data + offset
        parameter.requires_grad_(False)
    for target in lora.targets:
        parent = layer.self_attn if hasattr(layer.self_attn, target) else layer.mlp
        wrapped = _Lora(getattr(parent, target), *lora.low_rank(target)).double()
        setattr(parent, target, wrapped)
        prefix = "self_attn" if parent is layer.self_attn else "mlp"
        for matrix in ("lora_A", "lora_B"):
            name = f"adapter:layers.{{layer}}.{prefix}.{target}.{matrix}.weight"
            tensors[name] = getattr(wrapped, matrix)
    return layer, tensors


def _rotary(config, index: int):
    """The rotary embedding of `transformers` for a layer, of which only Gemma's asks the type."""
    if config.model_type == "gemma3_text":
        return partial(Gemma3RotaryEmbedding(config), layer_type=config.layer_types[index])
    return (Phi3RotaryEmbedding if config.model_type == "phi3" else LlamaRotaryEmbedding)(config)


def _fused(lora: LoraSettings) -> LoraSettings:
    """The settings for the layers that hold those they are for."""

    holders = {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
    holders |= dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj")

    def holder(name: str) -> str:
        return holders.get(name, name)

    return replace(
        lora,
        targets=tuple(dict.fromkeys(holder(name) for name in lora.targets)),
        rank_pattern=tuple((holder(name), rank) for name, rank in lora.rank_pattern),
        alpha_pattern=tuple((holder(name), alpha) for name, alpha in lora.alpha_pattern),
    )


ADAPTERS = [
    pytest.param(LoraSettings(4, 8.0, PROJECTIONS), id="all"),
    pytest.param(LoraSettings(4, 8.0, ("q_proj", "v_proj", "up_proj")), id="three"),
    pytest.param(
        LoraSettings(
            *(4, 8.0, PROJECTIONS, True),
            rank_pattern=(("gate_proj", 2), ("q_proj", 8)),
            alpha_pattern=(("down_proj", 3.0), ("v_proj", 5.0)),
        ),
        id="patterns",
    ),
]


FAMILIES = [
    *("llama", "llama-with-biases", "qwen2", "smollm3", "smollm3-nope", "granite", "qwen3"),
    *("olmo2", "phi3", "phi3-long", "gemma3_text", "gemma3_text-global"),
]
OTHERS = [(f, m) for m in ("ms-bp", "approx-bp") for f in FAMILIES if (f, m) != ("olmo2", "ms-bp")]
"""What the other lowerings share with mebp needs no test with other adapters."""


@pytest.mark.parametrize(
    ("family", "lowering", "lora"),
    [
        *(
            pytest.param(family, lowering, *lora.values, id=f"{family}-{lowering}-{lora.id}")
            for family in FAMILIES
            for lowering in ("mesp", "mebp")
            for lora in ADAPTERS
        ),
        *(pytest.param(*case, *ADAPTERS[-1].values, id="-".join(case)) for case in OTHERS),
    ],
)
def test_forward_and_backward_equal_the_transformers_layer(family, lowering, lora):
    torch.manual_seed(0)
    config = tiny_config(family.partition("-")[0])
    config.attention_bias = family.endswith("biases")
    index = int(family.endswith(("nope", "global")))
    if family.startswith("phi3"):
        lora = _fused(lora)
    layer, tensors = _reference_layer(config, lora, index)
    if lowering == "approx-bp":
        approximate_activations(layer, config)
    hidden = torch.randn(1, T, config.hidden_size, dtype=torch.float64, requires_grad=True)
    grad = torch.randn_like(hidden)
    positions, start = torch.tensor(POSITIONS), torch.tensor(START)
    if family.endswith("long"):
        positions += 9  # up to 16, from where on other frequencies count
    turned = _rotary(config, index)(hidden, positions[None])
    rows, columns = torch.arange(T)[:, None], torch.arange(T)[None]
    allowed = (columns <= rows) & (columns >= start[:, None])
    window = getattr(config, "sliding_window", None)
    if window and not family.endswith("global"):
        allowed &= columns > rows - window
    mask = torch.zeros(T, T, dtype=torch.float64).masked_fill(~allowed, float("-inf"))
    expected = layer(
        hidden,
        attention_mask=mask[None, None],
        position_embeddings=turned,
    )
    leaves = [hidden] + [t for name, t in tensors.items() if name.startswith("adapter:")]
    gradients = torch.autograd.grad(expected, leaves, grad)
    names = ["grad"] + [name for name in tensors if name.startswith("adapter:")]
    expected_gradients = dict(zip(names, gradients, strict=True))

    given = {
        **{name: tensor.detach() for name, tensor in tensors.items()},
        "hidden": hidden.detach(),
        "grad": grad,
        "positions": positions.int(),
        "start": start.int(),
        **{
            f"base:{name}.inv_freq": rope.inv_freq.double()
            for name, rope in family_of(config).ropes(config).items()
        },
    }
    functions = {
        function.name: function
        for function in program_functions(
            config, seq_len=T, lora=lora, lowering=lowering, schemes=SCHEMES
        )
    }
    numbers = {b.name for f in functions.values() for b in f.inputs if b.name.startswith("scalar:")}
    given |= {name: torch.tensor(float(name[7:]), dtype=torch.float64) for name in numbers}
    kind = family_of(config).block_kinds(config)[index].name
    forward, backward = functions[f"{kind}_forward"], functions[f"{kind}_backward"]
    output = forward.call(*(given[binding.name] for binding in forward.inputs))
    if len(forward.outputs) > 1:
        output, given["kept"] = output
    assert relative_error(output, expected) < TOLERANCE
    results = backward.call(*(given[binding.name] for binding in backward.inputs))
    assert len(results) == len(expected_gradients)
    for binding, result in zip(backward.outputs, results, strict=True):
        reference = expected_gradients[binding.name.replace("gradient:", "adapter:")]
        assert result.shape == binding.shape
        assert relative_error(result, reference) < TOLERANCE, binding.name
