"""What is to be planned: a bundle, a recipe, a model directory, a GGUF file or a hub id.

Only the configuration is read, never a weight, and `transformers` is imported only when a shape is
met for the first time.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.lora import LoraSettings
from toolkit.planning.cache import remembered
from toolkit.planning.settings import LORA, Settings
from toolkit.recipes import ExportDefaults, Recipe, recipe_of, recipes

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")


@dataclass(frozen=True)
class Model:
    """A model to plan for.

    Attributes:
        name: For people.
        export: What `toolkit export` takes to make a bundle of it; None where it is not known.
        identity: JSON value that the model's programs follow from, together with the settings.
        settings: Its defaults: those of the bundle or the recipe, else the export's.
        load: Reads its configuration.
        has_tokenizer: Whether text can be turned into data for it.
        bundle: The directory, if it is a bundle already.
        seq_lens: Lengths that the bundle has programs for.
    """

    name: str
    export: tuple[str, ...] | None
    identity: Any
    settings: Settings
    load: Callable[[], Any] = field(repr=False, compare=False)
    has_tokenizer: bool = True
    bundle: Path | None = None
    seq_lens: tuple[int, ...] = ()

    @cached_property
    def config(self) -> Any:
        """The configuration as `transformers` loads it."""
        return self.load()


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
    recipe = recipe_of(model)
    if recipe is not None:
        identity = ["recipe", recipe.family, recipe.config]
        # The hub id: a bundle is often called as the recipe is, and would be taken for the model.
        words = (recipe.hub_id,)
        return Model(recipe.name, words, identity, _of_recipe(recipe), recipe.model_config)
    if path.name == "config.json" and path.is_file():
        path = path.parent
    return _directory(path) if path.is_dir() else _on_the_hub(model)


def _bundle(path: Path) -> Model:
    from toolkit.bundle.manifest import read_manifest

    manifest = read_manifest(path)
    _, config = _identity(path / "config.json")
    return replace(bundle_model(manifest, config, lambda: load_config(path)), bundle=path)


def bundle_model(manifest: dict[str, Any], config: Any, load: Callable[[], Any]) -> Model:
    """Return the model of a bundle, wherever that is.

    Args:
        manifest, config: What its manifest.json and config.json hold.
        load: Reads the configuration as `transformers` loads it.
    """
    lora, quantization = LoraSettings.from_json(manifest["lora"]), manifest["quantization"]
    settings = Settings(
        seq_len=manifest["seq_lens"][0],
        **{name: getattr(lora, name) for name in LORA},
        lowering=manifest["lowering"],
        linear=quantization["linear"],
        embedding=quantization["embedding"],
        head=quantization["head"],
    )
    return Model(
        manifest["model"]["name"],
        _export_again(manifest["model"]),
        ["config", config],
        settings,
        load,
        has_tokenizer="tokenizer_config.json" in manifest["files"],
        seq_lens=tuple(manifest["seq_lens"]),
    )


def _export_again(model: dict[str, Any]) -> tuple[str, ...] | None:
    """Return what a bundle was made of, if it is (still) there to be exported again."""
    words = tuple(map(str, model.get("export", ())))
    if not words:
        return None
    if words[0] == "--random-weights":
        known = words[1] in recipes()
    else:
        known = not Path(words[0]).is_absolute() or Path(words[0]).exists()
    return words if known else None


def _gguf(path: Path) -> Model:
    status = path.stat()
    identity = ["gguf", str(path.resolve()), status.st_size, status.st_mtime_ns]

    def read() -> dict[str, str]:
        from toolkit.bundle.layout import base_parts
        from toolkit.bundle.weights import choose_schemes

        source = _open(path)
        return choose_schemes(source, base_parts(source.config), "auto", "auto")

    schemes: dict[str, Any] = remembered(["schemes", identity], read, dict, _schemes)
    settings = replace(Settings(), **schemes)
    return Model(path.stem, (str(path),), identity, settings, lambda: _open(path).config)


def _open(path: Path) -> Any:
    from toolkit.sources import open_source

    return open_source(str(path))


def _schemes(content: dict[str, str]) -> dict[str, str]:
    return {name: str(content[name]) for name in ("linear", "embedding", "head")}


def _of_recipe(recipe: Recipe) -> Settings:
    defaults = ExportDefaults.of(recipe)
    return Settings(
        seq_len=defaults.seq_lens[0],
        rank=defaults.rank,
        alpha=defaults.alpha,
        targets=defaults.targets,
        lowering=defaults.lowering,
        linear=defaults.quantization,
        embedding=defaults.embedding_quantization,
        head=defaults.embedding_quantization,
    )


def _directory(path: Path) -> Model:
    if not (path / "config.json").is_file():
        raise ToolkitError(
            f"{path} has no config.json", "Give a model's directory, a bundle or a recipe's name"
        )
    return Model(
        path.resolve().name,
        (str(path),),
        _identity(path / "config.json"),
        Settings(),
        lambda: load_config(path),
        has_tokenizer=any((path / name).is_file() for name in _TOKENIZER_FILES),
    )


def _on_the_hub(model: str) -> Model:
    """Read the config.json of a hub id, which alone is downloaded."""
    from toolkit.sources.hub import download_config, is_hub_id

    if not is_hub_id(model):
        raise ToolkitError(
            f"there is no model '{model}'",
            f"Give a directory with config.json, a bundle, a .gguf file, a hub id such as "
            f"Qwen/Qwen2.5-0.5B, or a recipe: {', '.join(recipes())}",
        )
    path = download_config(model)
    return Model(model, (model,), _identity(path), Settings(), lambda: load_config(path.parent))


def _identity(config: Path) -> list[Any]:
    try:
        return ["config", json.loads(config.read_text(encoding="utf-8"))]
    except (OSError, ValueError) as error:
        raise ToolkitError(f"{config} cannot be read: {error}") from error


def load_config(directory: Path) -> Any:
    """Return the configuration in a directory, of the text part where it has others.

    Raises:
        ToolkitError: There is none that can be used.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    from toolkit.sources.multimodal import text_config

    try:
        return text_config(AutoConfig.from_pretrained(directory))
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ToolkitError(
            f"{directory} has no configuration that can be used: {reason}",
            "Give a bundle, a directory with config.json, a .gguf file, a recipe or a hub id",
        ) from error
