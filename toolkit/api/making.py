"""From a model to a bundle."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import ToolkitError
from toolkit.lora import LoraSettings, parse_targets
from toolkit.recipes import ExportDefaults, Recipe, get_recipe, recipe_of

if TYPE_CHECKING:
    from toolkit.bundle.bundle import Bundle
    from toolkit.bundle.export import Progress
    from toolkit.sources import Source

Place = str | PathLike[str]


def export(
    model: Place | None,
    output: Place,
    *,
    seq_lens: Sequence[int] | None = None,
    rank: int | None = None,
    alpha: float | None = None,
    targets: str | Sequence[str] | None = None,
    rslora: bool = False,
    rank_pattern: Mapping[str, int] | None = None,
    alpha_pattern: Mapping[str, float] | None = None,
    layers: str | None = None,
    lowering: str | None = None,
    quantization: str | None = None,
    embedding_quantization: str | None = None,
    seed: int = 0,
    adapter: Place | None = None,
    random_weights: str | None = None,
    progress: "Progress | None" = None,
) -> "Bundle":
    """Turn a model into a bundle of training programs and quantized weights.

    What is None comes from the model's recipe, else is `ExportDefaults`. `output` is complete or
    as it was before.

    Args:
        model: Model directory, hub id (OWNER/NAME), .gguf file, or recipe (name or path).
        output: Directory to write; an older bundle there is replaced.
        seq_lens: Sequence lengths in tokens, a set of programs for each.
        rank, alpha, targets: Of the adapters; alpha follows the rank, targets may be "all-linear".
        rslora: Scale adapters by alpha over the root of the rank, not over the rank.
        rank_pattern, alpha_pattern: Other ranks and alphas by target.
        layers: Layers with adapters, as "16-23", "0,4,8-11" or "last:8".
        lowering: One of `toolkit.choices.LOWERINGS`; gradients of "approx-bp" are approximate.
        quantization: Of linear layers: "auto", "int4", "int4-symmetric" or "int8".
        embedding_quantization: The same of embedding and head.
        seed: Of the fresh adapter and of random weights.
        adapter: Folder of a PEFT adapter to start from; all of the above are its own.
        random_weights: Recipe whose shape gets random weights, instead of a model.
        progress: Told about stages and bytes.

    Returns:
        The bundle.

    Raises:
        ToolkitError: The model or a setting is not supported, or the disk is full.

    Example:
        >>> bundle = toolkit.export("HuggingFaceTB/SmolLM2-135M-Instruct", "bundle2", rank=4)
        >>> bundle.manifest["lora"]["alpha"]
        8.0
    """
    defaults, source = _defaults_and_source(model, random_weights, seed)
    from toolkit.bundle.bundle import Bundle
    from toolkit.bundle.export import ExportSettings, export_bundle

    start = None if adapter is None else Path(adapter)
    alphas = alpha_pattern or {}
    given = {
        "rank": rank,
        "alpha": alpha,
        "targets": None if targets is None else parse_targets(targets),
        "rslora": rslora or None,
        "rank_pattern": tuple(sorted((rank_pattern or {}).items())) or None,
        "alpha_pattern": tuple(sorted((n, float(a)) for n, a in alphas.items())) or None,
        "layers": layers,
    }
    given = {name: value for name, value in given.items() if value is not None}
    lora, opened = _adapter_and_model(start, given, defaults, source)
    settings = ExportSettings(
        lora=lora,
        seq_lens=tuple(seq_lens or defaults.seq_lens),
        lowering=lowering or defaults.lowering,
        quantization=quantization or defaults.quantization,
        embedding_quantization=embedding_quantization or defaults.embedding_quantization,
        seed=seed,
        adapter=start,
    )
    export_bundle(opened, Path(output), settings, progress)
    return Bundle.open(fspath(output))


def _lora_settings(given: dict[str, Any], defaults: ExportDefaults) -> LoraSettings:
    rank = given.get("rank", defaults.rank)
    own: dict[str, Any] = {"rank": rank, "alpha": defaults.alpha_for(rank)}
    return LoraSettings(**{"targets": defaults.targets, **own, **given})


def _adapter_and_model(
    adapter: Path | None,
    given: dict[str, Any],
    defaults: ExportDefaults,
    source: "Callable[[], Source]",
) -> "tuple[LoraSettings, Source]":
    """Return settings of the adapter, which those given must not contradict, and the opened model.

    What is read of an adapter is read first: to open the model may take a download.
    """
    if adapter is None:
        return _lora_settings(given, defaults), source()
    from toolkit.bundle.peft_files import read_peft_settings
    from toolkit.families import family_of

    own = read_peft_settings(adapter)
    opened = source()
    resolve = partial(family_of(opened.config).resolve, opened.config)
    own = resolve(own)
    modules = {name: given[name] for name in ("targets", "layers") if name in given}
    resolved = resolve(replace(LoraSettings(1, 1.0, own.targets, layers=own.layers), **modules))
    for name, value in given.items():
        mine, asked = getattr(own, name), getattr(resolved, name) if name in modules else value
        if set(asked) == set(mine) if isinstance(mine, tuple) else asked == mine:
            continue
        option, shown = f"--{name.replace('_', '-')}", own.to_json()[name]
        text = f"{shown:g}" if isinstance(shown, float) else str(shown) or "all"
        if isinstance(shown, list):
            text = ",".join(shown)
        raise ToolkitError(
            f"{option} differs from the adapter in {adapter}, which has {text}",
            f"Leave {option} out: it is taken from the adapter",
        )
    return own, opened


def _defaults_and_source(
    model: Place | None, random_weights: str | None, seed: int
) -> "tuple[ExportDefaults, Callable[[], Source]]":
    """Return what an export does where nothing is asked for, and what opens the model."""
    if (model is None) == (random_weights is None):
        raise ToolkitError("either a model or a recipe for random weights is needed", "Give one")
    if model is None:
        shape = get_recipe(random_weights or "")
        return ExportDefaults.of(shape), lambda: _random_source(shape, seed)
    recipe = recipe_of(fspath(model))
    name = recipe.hub_id if recipe else fspath(model)

    def open_model() -> "Source":
        from toolkit.sources import open_source

        return open_source(name)

    return ExportDefaults.of(recipe), open_model


def _random_source(recipe: Recipe, seed: int) -> "Source":
    from toolkit.bundle.layout import parameter_shapes
    from toolkit.sources.random import RandomSource

    config = recipe.model_config()
    return RandomSource(config, parameter_shapes(config), recipe.name, seed)
