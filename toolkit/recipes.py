"""Recipes: one YAML file in models/ for every model that is known to work.

A recipe names the model on the hub, its shape, and settings that suit it. `export` and `plan` take
their defaults from here.
"""

import copy
import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from toolkit.choices import FUSED_PROJECTIONS, LOWERINGS, PROJECTIONS, SCHEMES
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_SUFFIXES = (".yaml", ".yml")
_SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)
_CONFIG = (*_SHAPE, "rms_norm_eps", "tie_word_embeddings", "rope_parameters")


@dataclass(frozen=True)
class Recipe:
    """Settings of one model.

    Attributes:
        name: What the recipe is called, e.g. "qwen2.5-0.5b".
        hub_id: The model on the Hugging Face hub.
        family: `config.model_type`.
        license: Licence of the weights.
        config: Fields of the `transformers` configuration that fix shape and arithmetic; beside
            those of every model, those of its family.
        rank, alpha, targets: LoRA settings.
        seq_lens: Sequence lengths to export.
        lowering: One of `toolkit.choices.LOWERINGS`.
        quantization: Scheme of the linear layers.
        embedding_quantization: Scheme of embedding and head.
        command: The command that exports it with these settings.
        notes: What to know about it.
    """

    name: str
    hub_id: str
    family: str
    license: str
    config: dict[str, Any]
    rank: int
    alpha: int
    targets: tuple[str, ...]
    seq_lens: tuple[int, ...]
    lowering: str
    quantization: str
    embedding_quantization: str
    command: str
    notes: str

    def model_config(self, **changes: Any) -> "PretrainedConfig":
        """Return the `transformers` configuration, with some fields changed."""
        from transformers import AutoConfig

        return AutoConfig.for_model(self.family, **{**copy.deepcopy(self.config), **changes})


@dataclass(frozen=True)
class ExportDefaults:
    """What an export does where nothing else is asked for; a recipe has its own."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = PROJECTIONS
    seq_lens: tuple[int, ...] = (256,)
    lowering: str = "mesp"
    quantization: str = "auto"
    embedding_quantization: str = "auto"

    @classmethod
    def of(cls, recipe: Recipe | None) -> "ExportDefaults":
        """Return the defaults of a recipe, or those of models without one."""
        if recipe is None:
            return cls()
        return cls(
            recipe.rank,
            float(recipe.alpha),
            recipe.targets,
            recipe.seq_lens,
            recipe.lowering,
            recipe.quantization,
            recipe.embedding_quantization,
        )

    def alpha_for(self, rank: int) -> float:
        """Return alpha for another rank: alpha / rank, which scales the adapter, stays."""
        return self.alpha * rank / self.rank


def load_recipe_file(path: Path) -> Recipe:
    """Read and check one recipe.

    Raises:
        ToolkitError: A field is missing, unknown or wrong.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ToolkitError(f"Recipe {path} cannot be read: {error}") from error
    wanted = {field.name for field in fields(Recipe)}
    found = set(raw) if isinstance(raw, dict) else set()
    if found != wanted:
        missing, unknown = sorted(wanted - found), sorted(found - wanted)
        raise ToolkitError(f"Recipe {path}: missing fields {missing}, unknown fields {unknown}")
    recipe = Recipe(**{**raw, "targets": tuple(raw["targets"]), "seq_lens": tuple(raw["seq_lens"])})
    problem = _problem(recipe, path)
    if problem:
        raise ToolkitError(f"Recipe {path}: {problem}")
    return recipe


def _problem(recipe: Recipe, path: Path) -> str:
    """Return what is wrong with a recipe, or ""."""
    config, known = recipe.config, (*PROJECTIONS, *FUSED_PROJECTIONS)
    checks = {
        f"name must be {path.stem}": recipe.name == path.stem,
        f"config needs {', '.join(_CONFIG)}": set(_CONFIG) <= set(config),
        f"targets must be among {', '.join(known)}": recipe.targets
        and set(recipe.targets) <= set(known),
        f"quantization must be one of {', '.join(SCHEMES)}": recipe.quantization in SCHEMES
        and recipe.embedding_quantization in SCHEMES,
        f"lowering must be one of {', '.join(LOWERINGS)}": recipe.lowering in LOWERINGS,
        "rank, alpha and seq_lens must be positive": all(
            value > 0 for value in (recipe.rank, recipe.alpha, *recipe.seq_lens)
        )
        and recipe.seq_lens,
    }
    failed = next((text for text, good in checks.items() if not good), "")
    if not failed and not all(isinstance(config[name], int) for name in _SHAPE):
        failed = f"{', '.join(_SHAPE)} must be whole numbers"
    return failed


def recipe_directory() -> Path:
    """Return where the recipes are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parent
    for directory in (package / "models", package.parent / "models"):
        if any(directory.glob("*.yaml")):
            return directory
    raise ToolkitError("The recipes (models/*.yaml) are missing", "Install toolkit again")


@functools.cache
def recipes() -> dict[str, Recipe]:
    """Return all recipes by name."""
    loaded = [load_recipe_file(path) for path in sorted(recipe_directory().glob("*.yaml"))]
    return {recipe.name: recipe for recipe in loaded}


def recipe_of(model: str) -> Recipe | None:
    """Return the recipe that a model on the command line means; a directory or weights mean none.

    Raises:
        ToolkitError: It is the path of a recipe that is missing or wrong.
    """
    path = Path(model).expanduser()
    return None if path.exists() and path.suffix not in _SUFFIXES else find_recipe(model)


def find_recipe(name: str) -> Recipe | None:
    """Return the recipe with this name, hub id or path, or None. Case does not matter.

    Raises:
        ToolkitError: It is the path of a recipe that is missing or wrong.
    """
    if Path(name).suffix in _SUFFIXES:
        path = Path(name).expanduser()
        if not path.is_file():
            raise ToolkitError(
                f"There is no recipe file {name}",
                f"Recipes that need no file: {', '.join(recipes())}",
            )
        return load_recipe_file(path)
    wanted = name.lower()
    for recipe in recipes().values():
        if wanted in (recipe.name.lower(), recipe.hub_id.lower()):
            return recipe
    return None


def get_recipe(name: str) -> Recipe:
    """Return the recipe with this name, hub id or path.

    Raises:
        ToolkitError: There is none.
    """
    recipe = find_recipe(name)
    if recipe is None:
        raise ToolkitError(f"There is no recipe '{name}'", f"Recipes: {', '.join(recipes())}")
    return recipe
