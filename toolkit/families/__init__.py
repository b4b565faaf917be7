"""The model families that can be trained: every module of this folder that has a `FAMILY`.

`FAMILIES` is the only list of them. A family names the real `transformers` decoder layer and how
its modules map to operators; recipes are presets for single models.
"""

import importlib
import pkgutil

from transformers import PretrainedConfig

from toolkit.errors import ToolkitError
from toolkit.families.family import BlockKind, Family, Gguf, resolve
from toolkit.families.features import check_features, head_dimension

__all__ = [
    "FAMILIES",
    "BlockKind",
    "Family",
    "Gguf",
    "check_family",
    "family_of",
    "family_of_gguf",
    "head_dimension",
    "resolve",
]


def _find() -> dict[str, Family]:
    modules = [
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)
    ]
    families = [module.FAMILY for module in modules if hasattr(module, "FAMILY")]
    return {family.model_type: family for family in families}


FAMILIES: dict[str, Family] = _find()
"""Every family by `config.model_type`."""


def family_of(config: PretrainedConfig) -> Family:
    """Return the family of a configuration after checking that all its features are supported.

    Raises:
        ToolkitError: The family, or a feature that the configuration turns on, is not supported.
    """
    check_family(config.model_type)
    family = FAMILIES[config.model_type]
    check_features(config, family.supports)
    return family


def check_family(model_type: str | None) -> None:
    """Check that a family is supported, by name alone.

    Raises:
        ToolkitError: It is not.
    """
    if model_type not in FAMILIES:
        raise _unknown(model_type)


def family_of_gguf(architecture: str | None) -> Family:
    """Return the family that a GGUF file calls by this name.

    Raises:
        ToolkitError: There is none.
    """
    for family in FAMILIES.values():
        if family.gguf_architecture == architecture:
            return family
    raise _unknown(architecture)


def _unknown(name: str | None) -> ToolkitError:
    return ToolkitError(
        f"Model family '{name}' is not supported",
        f"Supported families: {', '.join(sorted(FAMILIES))}",
    )
