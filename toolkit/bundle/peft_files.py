"""PEFT's files of an adapter: its settings and its tensors."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.bundle.peft_config import read_peft_config, require_folder
from toolkit.errors import ToolkitError
from toolkit.layers import layers_text
from toolkit.lora import PROJECTIONS, TEXT_MODULE, LoraSettings
from toolkit.modalities import NOT_TEXT
from toolkit.safetensors_checksum import has_checksum, is_intact

if TYPE_CHECKING:
    from toolkit.sources.safetensors_file import SafetensorsFile

_MODEL_PREFIX = "base_model.model."
PEFT_PREFIX = f"{_MODEL_PREFIX}{TEXT_MODULE}."
_LAYER = re.compile(r"layers\.(\d+)\.")
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "arrow_config": "Arrow routing",
    "alora_invocation_tokens": "aLoRA",
    "lora_bias": "biases of B",
    "fan_in_fan_out": "transposed weights",
    "modules_to_save": "modules that are trained in full",
    "target_parameters": "adapters of parameters",
    "trainable_token_indices": "trained token embeddings",
    "layer_replication": "replicated layers",
}
"""Fields of LoraConfig that change what an adapter computes, and what they are called."""
_OTHER_BASE = {
    "pissa": "PiSSA",
    "olora": "OLoRA",
    "corda": "CorDA",
    "loftq": "LoftQ",
    "lora_ga": "LoRA-GA",
}
"""Initializations that take a part of the base weights away: nothing to add to ours."""
_SAME_BASE = (True, False, None, "true", "gaussian", "eva", "orthogonal", "mica")


def read_peft_settings(directory: Path) -> LoraSettings:
    """Return the settings of a PEFT adapter, with its layers by number.

    Raises:
        ToolkitError: There is no LoRA adapter, or it uses a variant that is not supported.
    """
    config = read_peft_config(directory)
    _check_variant(directory, config)
    modules = sorted(
        {name.rpartition(".lora_")[0] for name in open_peft_weights(directory).names()} - {""}
    )
    targets = {module.rpartition(".")[2] for module in modules}
    ordered = [name for name in PROJECTIONS if name in targets] + sorted(targets - set(PROJECTIONS))
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        return LoraSettings(
            rank,
            alpha,
            tuple(ordered),
            bool(config.get("use_rslora")),
            _by_target(directory, config, "rank_pattern", modules, rank),
            _by_target(directory, config, "alpha_pattern", modules, alpha),
            layers_text({int(match[1]) for match in map(_LAYER.search, modules) if match}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise ToolkitError(
            f"{directory}/adapter_config.json has no valid r, lora_alpha or pattern of them"
        ) from error


def _check_variant(directory: Path, config: dict[str, Any]) -> None:
    """Refuse, by name, what our programs do not compute or our base weights are not."""
    if config.get("peft_type") != "LORA":
        raise ToolkitError(
            f"{directory} holds a {config.get('peft_type')} adapter", "Only LORA is supported"
        )
    start = config.get("init_lora_weights", True)
    if start not in _SAME_BASE:
        name = next((n for word, n in _OTHER_BASE.items() if str(start).startswith(word)), None)
        raise ToolkitError(
            f"The adapter in {directory} is of {name or 'an unknown kind'}: it was made with "
            f"init_lora_weights={start!r}, which changes the base model's weights",
            "Convert it with peft: save_pretrained(..., path_initial_model_for_weight_conversion=)",
        )
    used = [f"{name} ({field})" for field, name in _UNSUPPORTED.items() if config.get(field)]
    if config.get("bias", "none") != "none":
        used.append("trained biases (bias)")
    if used:
        raise ToolkitError(
            f"The adapter in {directory} uses {', '.join(used)}",
            "Only LoRA without these is supported",
        )


def _by_target(
    directory: Path, config: dict[str, Any], field: str, modules: list[str], default: Any
) -> tuple[tuple[str, Any], ...]:
    """Return what a pattern of `peft` comes to for every target where that is not the default.

    A key is a regular expression that the end of a module's path matches, the first one counts.
    """
    pattern = config.get(field) or {}
    found: dict[str, Any] = {}
    for module in modules:
        path, target = module.removeprefix(_MODEL_PREFIX), module.rpartition(".")[2]
        keys = (key for key in pattern if re.match(rf"(.*\.)?({key})$", path))
        value = type(default)(pattern.get(next(keys, None), default))
        if found.setdefault(target, value) != value:
            raise ToolkitError(
                f"The adapter in {directory} has a {field} that gives {target} "
                f"{found[target]:g} in one layer and {value:g} in another",
                "Every layer must have the same rank and alpha",
            )
    return tuple(sorted((name, value) for name, value in found.items() if value != default))


def peft_prefix(text_module: str) -> str:
    """Return what `peft` puts before the names of the layers' tensors."""
    return f"{_MODEL_PREFIX}{text_module}."


def prefix_of(names: Iterable[str], tensor: str) -> str:
    """Return what an adapter has before a tensor's name, `PEFT_PREFIX` where it has no such tensor.

    Adapters made for a model that also sees and for its text part alone differ in this only.
    """
    found = re.compile(rf"({re.escape(_MODEL_PREFIX)}([\w.]+\.)?){re.escape(tensor)}")
    prefixes = [match[1] for match in map(found.fullmatch, names) if match]
    return next((one for one in prefixes if not NOT_TEXT.search(one)), PEFT_PREFIX)


def open_peft_weights(directory: Path) -> "SafetensorsFile":
    """Open an adapter's tensors.

    Raises:
        ToolkitError: There are none.
    """
    from toolkit.sources.safetensors_file import SafetensorsFile  # torch takes seconds

    require_folder(directory)
    path = directory / "adapter_model.safetensors"
    if not path.exists():
        old = (directory / "adapter_model.bin").exists()
        raise ToolkitError(
            f"{directory} has no adapter_model.safetensors",
            "Save the adapter with safe_serialization=True"
            if old
            else "Give the directory that peft saved or `toolkit pull` brought",
        )
    if has_checksum(path) and not is_intact(path):
        raise ToolkitError(
            f"{path} is damaged, or another program wrote it and kept our checksum",
            "Pull it again, or save it without the metadata that it was read with",
        )
    return SafetensorsFile(path)
