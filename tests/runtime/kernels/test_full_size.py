"""Every operator at the shapes of real models, on every instruction set this machine has.

CI does it for the widest products of the smallest model, TOOLKIT_SOAK=1 for all models that the
README has figures of.
"""

import os
from dataclasses import replace
from itertools import product

import pytest

from tests.runtime.kernels.native import (
    assert_close,
    available_isas,
    execute,
    export_calls,
    library,
)
from tests.support.operators import Sizes, arguments, in_double
from tests.support.programs import outputs_of
from toolkit.ops import OPERATORS
from toolkit.recipes import get_recipe

MODELS = (
    "smollm2-135m", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "llama-3.2-3b", "qwen3-0.6b",
    "qwen3-4b", "gemma3-270m", "gemma3-1b", "phi-4-mini",
)  # fmt: skip
MLP = {"gemma3_text": "geglu_mlp", "phi3": "fused_swiglu_mlp"}
"""Family -> operator, where it is not swiglu_mlp."""
TOKENS, LONG = 256, 1024
PARTS = ("up", "down", "query", "key", "mlp", "attention", "long attention", "head", "rows")
CASES = [(MODELS[0], "mlp"), (MODELS[0], "head")]
if os.environ.get("TOOLKIT_SOAK"):
    CASES = list(product(MODELS, PARTS))


def sizes_of(model: str, part: str) -> Sizes:
    """Return the sizes of one part of a model; the fields D and F are a linear layer's widths."""
    recipe = get_recipe(model)
    config = recipe.config
    sizes = Sizes(
        t=TOKENS,
        d=config["hidden_size"],
        f=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        rank=recipe.rank,
        vocab=config["vocab_size"],
        scheme=recipe.quantization,
        bias=recipe.family == "qwen2",
        seed=PARTS.index(part),
    )
    changes = {
        "down": {"d": sizes.f, "f": sizes.d, "bias": False},
        "query": {"f": sizes.heads * sizes.head_dim},
        "key": {"f": sizes.kv_heads * sizes.head_dim},
        "long attention": {"t": LONG},
        "head": {"scheme": recipe.embedding_quantization},
    }
    return replace(sizes, **changes.get(part, {}))


def operators_of(part: str, mlp: tuple[str, ...]) -> list[str]:
    """Return the operators of a part with their backward; those of no other part are of rows.

    Args:
        part: One of PARTS.
        mlp: Operators that are the model's MLP.
    """
    if part in ("up", "down", "query", "key"):
        return [name for name in OPERATORS if name.startswith(("quantized_linear", "lora_linear"))]
    if part in ("attention", "long attention"):
        return [name for name in OPERATORS if name.startswith("attention")]
    own = {"mlp": mlp, "head": ("linear_cross_entropy", "quantized_embedding")}
    if part in own:
        return [name for name in OPERATORS if name.startswith(own[part])]
    every = ("swiglu_mlp", *MLP.values())
    others = {name for other in PARTS[:-1] for name in operators_of(other, every)}
    return [name for name in OPERATORS if name not in others]


@pytest.mark.slow
@pytest.mark.parametrize("model, part", CASES)
def test_matches_the_reference(model, part):
    sizes = sizes_of(model, part)
    family = get_recipe(model).family
    names = operators_of(part, (MLP.get(family, "swiglu_mlp"),))
    calls = {name: arguments(name, sizes) for name in names}
    program = export_calls({"all": calls})
    results = {}
    for isa in available_isas():
        assert library().select_isa(isa)
        library().set_threads(2)
        results[isa] = execute(program, "all", calls)
    for name, args in calls.items():
        expected = outputs_of(OPERATORS[name].reference(*in_double(args)))
        for result in results.values():
            assert_close(name, result[name], expected, sizes)
