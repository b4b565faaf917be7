"""The LoRA adapter that training starts from: as `peft` initializes it, or an existing one.

With a seed, the tensors equal those of

    torch.manual_seed(seed)
    peft.get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets))

bit by bit: B is zero, A is kaiming-uniform with a = sqrt(5), drawn in the order of the modules.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.bundle.flat_tensor import TensorSpec, write_flat_tensor
from toolkit.bundle.weights import check_finite
from toolkit.errors import ToolkitError
from toolkit.lora import PROJECTIONS, LoraSettings
from toolkit.safetensors_checksum import has_checksum, is_intact
from toolkit.sources.safetensors_file import SafetensorsFile

PEFT_PREFIX = "base_model.model.model."
_UNSUPPORTED = (
    "use_dora",
    "use_rslora",
    "fan_in_fan_out",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
)
# Initializations that leave the base weights as they are; pissa, olora, corda, loftq and lora_ga
# train against a base from which a part was taken, so their adapters mean nothing on ours.
_SAME_BASE = (True, False, None, "true", "gaussian", "eva", "orthogonal", "mica")


def initial_adapter(specs: list[TensorSpec], seed: int) -> Iterator[Tensor]:
    """Yield the tensors of a fresh adapter.

    Args:
        specs: A and B of every projection in turn, from `layout.adapter_specs`.
        seed: What `torch.manual_seed` would be called with.
    """
    state = torch.Generator().manual_seed(seed).get_state()
    for a_spec, b_spec in zip(specs[::2], specs[1::2], strict=True):
        a, state = _draw_a(a_spec.shape, b_spec.shape, state)
        yield a
        yield torch.zeros(b_spec.shape)


def _draw_a(a: tuple[int, ...], b: tuple[int, ...], state: Tensor) -> tuple[Tensor, Tensor]:
    """Draw A as `peft` does from a generator's state; return it and the state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(state)
        # peft makes both linear layers, which draws their default weights, then draws A anew.
        weight = nn.Linear(a[1], a[0], bias=False).weight.detach()
        nn.Linear(b[1], b[0], bias=False)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        return weight, torch.random.get_rng_state()


def read_peft_settings(directory: Path) -> LoraSettings:
    """Return rank, alpha and targets of a PEFT adapter.

    Raises:
        ToolkitError: There is no LoRA adapter, or it uses a variant that is not supported.
    """
    config = _read_config(directory)
    if config.get("peft_type") != "LORA":
        raise ToolkitError(
            f"{directory} holds a {config.get('peft_type')} adapter", "Only LORA is supported"
        )
    used = [name for name in _UNSUPPORTED if config.get(name)]
    if config.get("bias", "none") != "none":
        used.append("bias")
    start = config.get("init_lora_weights", True)
    if start not in _SAME_BASE:
        raise ToolkitError(
            f"The adapter in {directory} was made with init_lora_weights={start!r}, "
            "which changes the base model's weights",
            "Convert it with peft: save_pretrained(..., path_initial_model_for_weight_conversion=)",
        )
    if used:
        raise ToolkitError(
            f"The adapter in {directory} uses {', '.join(used)}",
            "Only plain LoRA without these settings is supported",
        )
    names = _open_weights(directory).names()
    targets = {name.rsplit(".", 3)[-3] for name in names if ".lora_" in name}
    ordered = [name for name in PROJECTIONS if name in targets] + sorted(targets - set(PROJECTIONS))
    try:
        return LoraSettings(int(config["r"]), float(config["lora_alpha"]), tuple(ordered))
    except (KeyError, TypeError, ValueError) as error:
        raise ToolkitError(f"{directory}/adapter_config.json lacks r or lora_alpha") from error


def check_peft_weights(directory: Path, specs: list[TensorSpec]) -> None:
    """Check that an adapter has exactly the tensors that the model needs.

    Raises:
        ToolkitError: Naming the first tensor that is missing, different or too many.
    """
    weights = _open_weights(directory)
    wanted = {PEFT_PREFIX + spec.name: spec for spec in specs}
    for name, spec in wanted.items():
        if name not in weights.names():
            raise ToolkitError(
                f"The adapter in {directory} has no {name}",
                "Every layer must have the same targets, those of the model's own projections",
            )
        if weights.shape(name) != spec.shape:
            raise ToolkitError(
                f"{name} in {directory} has shape {list(weights.shape(name))}, "
                f"the model needs {list(spec.shape)}",
                "The adapter belongs to another model",
            )
    extra = sorted(set(weights.names()) - set(wanted))
    if extra:
        raise ToolkitError(
            f"The adapter in {directory} has {extra[0]}, which the model has no place for",
            "Only adapters of the projections in the decoder layers are supported",
        )


def check_peft_settings(directory: Path, lora: dict[str, Any]) -> None:
    """Check that an adapter has rank, alpha and targets of a bundle.

    Args:
        directory: The adapter.
        lora: The field "lora" of the bundle's manifest.

    Raises:
        ToolkitError: One differs: the bundle's programs are for its own.
    """
    settings = read_peft_settings(directory)
    for what, own, wanted in (
        ("rank", settings.rank, lora["rank"]),
        ("alpha", settings.alpha, lora["alpha"]),
        ("targets", sorted(settings.targets), sorted(lora["targets"])),
    ):
        if own != wanted:
            texts = [",".join(v) if isinstance(v, list) else f"{v:g}" for v in (own, wanted)]
            raise ToolkitError(
                f"the adapter in {directory} has {what} {texts[0]}, the bundle {texts[1]}",
                f"Export a bundle for it with `toolkit export MODEL --adapter {directory}`",
            )


def write_peft_adapter(
    directory: Path, specs: list[TensorSpec], lora: dict[str, Any], path: Path
) -> None:
    """Write a PEFT adapter as adapter .ptd.

    Args:
        directory: The adapter.
        specs: The tensors of the bundle's own adapter .ptd.
        lora: The field "lora" of the bundle's manifest.
        path: The file to write.

    Raises:
        ToolkitError: The adapter is not one for this bundle.
    """
    check_peft_settings(directory, lora)
    check_peft_weights(directory, specs)
    write_flat_tensor(path, specs, peft_weights(directory, specs))


def peft_base_model(directory: Path) -> str:
    """Return what an adapter says its base model is, or nothing."""
    return str(_read_config(directory).get("base_model_name_or_path") or "")


def peft_weights(directory: Path, specs: list[TensorSpec]) -> Iterator[Tensor]:
    """Yield an existing adapter's tensors as float32, in the order of `specs`.

    Raises:
        ToolkitError: Naming the first tensor with a value that is not finite.
    """
    weights = _open_weights(directory)
    for spec in specs:
        values = weights.rows(PEFT_PREFIX + spec.name, 0, spec.shape[0])
        check_finite(f"{spec.name} in {directory}", values)
        yield values


def peft_config(settings: LoraSettings, base_model: str) -> dict[str, Any]:
    """Return the content of adapter_config.json, as `peft` reads it."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": settings.rank,
        "lora_alpha": int(settings.alpha) if settings.alpha.is_integer() else settings.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(settings.targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }


def _read_config(directory: Path) -> dict[str, Any]:
    _require_folder(directory)
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


def _open_weights(directory: Path) -> SafetensorsFile:
    _require_folder(directory)
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
        raise ToolkitError(f"{path} is damaged: it does not match its checksum", "Pull it again")
    return SafetensorsFile(path)


def _require_folder(directory: Path) -> None:
    if directory.is_dir():
        return
    what = "is a file, not an adapter's folder" if directory.exists() else "does not exist"
    raise ToolkitError(
        f"{directory} {what}", "Give the folder that peft saved or `toolkit pull` brought"
    )
