"""Blocks as wide as those of the recipes, every kind once: gradients of the whole adapter.

CI takes the smallest model with windows, TOOLKIT_SOAK=1 one model of every shape. The vocabulary is
small; heads of full size have their own test among those of the kernels.
"""

import os

import pytest

import toolkit
from toolkit.bundle.adapter import LoraSettings
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.bundle.layout import parameter_shapes
from toolkit.recipes import get_recipe
from toolkit.sources.random import RandomSource

LAYERS = {
    "gemma3-270m": 6, "gemma3-1b": 6, "qwen3-0.6b": 1, "qwen3-4b": 1, "smollm3-3b": 4,
    "olmo2-1b": 1, "granite3-2b": 1, "llama-3.2-1b": 1, "phi-3-mini": 1, "phi-4-mini": 1,
    "qwen2.5-1.5b": 1,
}  # fmt: skip
"""As few as have a block of every kind: Gemma's sixth is global, SmolLM3's fourth turns nothing."""
TOKENS = 640
"""More than the window of Gemma's local layers, 512."""


@pytest.mark.slow
@pytest.mark.parametrize("model", LAYERS if os.environ.get("TOOLKIT_SOAK") else ["gemma3-270m"])
def test_gradients_of_full_size_blocks(model, tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    recipe = get_recipe(model)
    config = recipe.model_config(vocab_size=1000, pad_token_id=None)
    kinds = getattr(config, "layer_types", None)
    config.num_hidden_layers = LAYERS[model]
    if kinds:
        config.layer_types = kinds[: LAYERS[model]]
        assert set(config.layer_types) == set(kinds)
    source = RandomSource(config, parameter_shapes(config), model, seed=1)
    lora = LoraSettings(recipe.rank, float(recipe.alpha), tuple(recipe.targets))
    settings = ExportSettings(lora, (TOKENS,), "mesp", recipe.quantization)
    export_bundle(source, tmp_path / "bundle", settings)
    result = toolkit.verify(tmp_path / "bundle", samples=2)
    assert result.passed, result.errors[:3]
    assert len(result.errors) == 2 * len(recipe.targets) * LAYERS[model]
