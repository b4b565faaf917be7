"""adapter_config.json of PEFT, read and written without a library that takes time to import."""

import json
import re
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.lora import TEXT_MODULE, LoraSettings


def peft_base_model(directory: Path) -> str:
    """Return what an adapter says its base model is, or nothing."""
    return str(read_peft_config(directory).get("base_model_name_or_path") or "")


def peft_revision(directory: Path) -> str:
    """Return the commit, branch or tag of the base model that an adapter names, or nothing."""
    return str(read_peft_config(directory).get("revision") or "")


def peft_config(
    settings: LoraSettings,
    layers: int,
    base_model: str,
    revision: str = "",
    text_module: str = TEXT_MODULE,
) -> dict[str, Any]:
    """Return the content of adapter_config.json, as `peft` reads it.

    Args:
        settings: With targets by name.
        layers: Of the model.
        base_model: Where it is.
        revision: Commit of a model of the hub.
        text_module: Path of the module with the layers. Where it is not that of a model of text,
            targets are a pattern that leaves out other modules of these names, those of a vision
            tower for example; it finds the text model alone, too.
    """
    whole = text_module != TEXT_MODULE
    chosen = list(settings.layers_of(layers)) if settings.layers else None
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "revision": revision or None,
        "r": settings.rank,
        "lora_alpha": _number(settings.alpha),
        "lora_dropout": 0.0,
        "target_modules": _pattern(text_module, chosen, settings.targets)
        if whole
        else list(settings.targets),
        "layers_to_transform": None if whole else chosen,
        "rank_pattern": dict(settings.rank_pattern),
        "alpha_pattern": {name: _number(alpha) for name, alpha in settings.alpha_pattern},
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": settings.rslora,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }


def _pattern(text_module: str, layers: list[int] | None, targets: tuple[str, ...]) -> str:
    numbers = r"\d+" if layers is None else "|".join(map(str, layers))
    module = rf"({re.escape(text_module)}|{TEXT_MODULE})"
    return rf"{module}\.layers\.({numbers})\.\w+\.({'|'.join(map(re.escape, targets))})"


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def read_peft_config(directory: Path) -> dict[str, Any]:
    """Return the content of an adapter's configuration.

    Raises:
        ToolkitError: There is none, or it cannot be read.
    """
    require_folder(directory)
    path = directory / "adapter_config.json"
    if not path.exists():
        raise ToolkitError(
            f"{directory} has no adapter_config.json", "Give the directory that peft saved"
        )
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ToolkitError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ToolkitError(f"{path} is not an adapter's configuration")
    return config


def require_folder(directory: Path) -> None:
    """Raise unless an adapter's folder is one."""
    if directory.is_dir():
        return
    what = "is a file, not an adapter's folder" if directory.exists() else "does not exist"
    raise ToolkitError(
        f"{directory} {what}", "Give the folder that peft saved or `toolkit pull` brought"
    )
