"""What is to be planned: a bundle, a recipe, a model directory, a GGUF file or a hub id.

Only the configuration is read, never a weight.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.planning.settings import Settings
from toolkit.recipes import Recipe, find_recipe, recipes


@dataclass(frozen=True)
class Model:
    """A model to plan for.

    Attributes:
        name: For people.
        source: What `toolkit export` takes to make a bundle of it.
        config: Its configuration.
        settings: Its defaults: those of the bundle or the recipe, else the export's.
        bundle: The directory, if it is a bundle already.
        seq_lens: Lengths that the bundle has programs for.
    """

    name: str
    source: str
    config: Any
    settings: Settings
    bundle: Path | None = None
    seq_lens: tuple[int, ...] = ()


def open_model(model: str) -> Model:
    """Find out what `model` is.

    Raises:
        ToolkitError: It is nothing that can be planned for.
    """
    path = Path(model).expanduser()
    if (path / "manifest.json").is_file():
        return _bundle(path)
    if path.suffix.lower() == ".gguf" and path.is_file():
        return _gguf(path)
    recipe = None if path.exists() else find_recipe(model)
    if recipe is not None:
        return Model(recipe.name, recipe.hub_id, recipe.model_config(), _of_recipe(recipe))
    return _configured(model, path.parent if path.name == "config.json" else path)


def _bundle(path: Path) -> Model:
    from transformers import AutoConfig

    from toolkit.bundle.manifest import read_manifest

    manifest = read_manifest(path)
    lora, quantization = manifest["lora"], manifest["quantization"]
    settings = Settings(
        seq_len=manifest["seq_lens"][0],
        rank=lora["rank"],
        alpha=lora["alpha"],
        targets=tuple(lora["targets"]),
        method=manifest["method"],
        linear=quantization["linear"],
        embedding=quantization["embedding"],
        head=quantization["head"],
    )
    model = manifest["model"]
    seq_lens = tuple(manifest["seq_lens"])
    config = AutoConfig.from_pretrained(path)
    return Model(model["name"], model["origin"], config, settings, path, seq_lens)


def _gguf(path: Path) -> Model:
    from toolkit.bundle.layout import base_parts
    from toolkit.bundle.weights import choose_schemes
    from toolkit.sources import open_source

    source = open_source(str(path))
    schemes = choose_schemes(source, base_parts(source.config), "auto", "auto")
    settings = replace(Settings(), **{name: schemes[name] for name in schemes})
    return Model(source.name, str(path), source.config, settings)


def _of_recipe(recipe: Recipe) -> Settings:
    return Settings(
        seq_len=recipe.seq_lens[0],
        rank=recipe.rank,
        alpha=float(recipe.alpha),
        targets=recipe.targets,
        method=recipe.method,
        linear=recipe.quantization,
        embedding=recipe.embedding_quantization,
        head=recipe.embedding_quantization,
    )


def _configured(model: str, path: Path) -> Model:
    """Read config.json of a directory, or that of a hub id, which alone is downloaded."""
    from transformers import AutoConfig

    if not path.is_dir() and "/" not in model:  # hub ids of the families we know have an owner
        raise ToolkitError(
            f"there is no model '{model}'",
            f"Give a directory with config.json, a bundle, a .gguf file, a hub id such as "
            f"Qwen/Qwen2.5-0.5B, or a recipe: {', '.join(recipes())}",
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise ToolkitError(
            f"{path} has no config.json", "Give a model's directory, a bundle or a recipe's name"
        )
    try:
        config = AutoConfig.from_pretrained(path if path.is_dir() else model)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ToolkitError(
            f"{model} is no bundle, recipe or model whose configuration can be read: {reason}",
            "Give a bundle, a directory with config.json, a .gguf file, a recipe or a hub id",
        ) from error
    name = path.resolve().name if path.is_dir() else model
    return Model(name, str(path) if path.is_dir() else model, config, Settings())
