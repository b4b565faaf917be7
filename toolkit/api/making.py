"""From a model to a bundle."""

from collections.abc import Callable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import ToolkitError
from toolkit.lora import LoraSettings
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
    targets: Sequence[str] | None = None,
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
        rank, alpha, targets: Of the adapters; alpha follows the rank.
        lowering: "mesp" or "mebp".
        quantization: Of linear layers: "auto", "int4", "int4-symmetric" or "int8".
        embedding_quantization: The same of embedding and head.
        seed: Of the fresh adapter and of random weights.
        adapter: Folder of a PEFT adapter to start from; rank, alpha and targets are its own.
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
    names = None if targets is None else tuple(targets)
    settings = ExportSettings(
        lora=_lora_settings(start, rank, alpha, names, defaults),
        seq_lens=tuple(seq_lens or defaults.seq_lens),
        lowering=lowering or defaults.lowering,
        quantization=quantization or defaults.quantization,
        embedding_quantization=embedding_quantization or defaults.embedding_quantization,
        seed=seed,
        adapter=start,
    )
    export_bundle(source(), Path(output), settings, progress)
    return Bundle.open(fspath(output))


def _lora_settings(
    adapter: Path | None,
    rank: int | None,
    alpha: float | None,
    targets: tuple[str, ...] | None,
    defaults: ExportDefaults,
) -> LoraSettings:
    from toolkit.bundle.adapter import read_peft_settings

    if adapter is None:
        chosen = rank or defaults.rank
        scaled = defaults.alpha_for(chosen) if alpha is None else alpha
        return LoraSettings(chosen, scaled, targets or defaults.targets)
    settings = read_peft_settings(adapter)
    for option, given, own in (
        ("--rank", rank, settings.rank),
        ("--alpha", alpha, settings.alpha),
        ("--targets", targets and sorted(targets), sorted(settings.targets)),
    ):
        if given is not None and given != own:
            shown = ",".join(own) if isinstance(own, list) else f"{own:g}"
            raise ToolkitError(
                f"{option} differs from the adapter in {adapter}, which has {shown}",
                f"Leave {option} out: it is taken from the adapter",
            )
    return settings


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
