"""Adapters to start a run from: checked against a bundle on the device, and sent.

A folder that peft saved (or `toolkit pull` brought) is converted here. On the device an adapter is
named after its content, so that no run's start is ever replaced by another's.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.device.base import Device
from toolkit.device.commands import send_file
from toolkit.device.layout import Deployed
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file
from toolkit.lora import LoraSettings

if TYPE_CHECKING:
    from toolkit.bundle.flat_tensor import TensorSpec

_HEAD_LIMIT = 64 << 20
_MANIFEST_LIMIT = 64 << 20
_NAME_DIGITS = 16


def send_adapter(
    device: Device, adapter: Path, bundle: Deployed, say: Callable[[str], None]
) -> str:
    """Send an adapter that fits a bundle, unless it is there, and return its path on the device.

    Args:
        adapter: An adapter .ptd, or the folder of a PEFT adapter.
        bundle: The bundle on the device that it is for.
        say: Called with a line for people if the adapter names another base model.

    Raises:
        ToolkitError: It is no adapter, or not one for this bundle.
    """
    if str(adapter.parent) == f"{device.root}/adapters" and device.stat(str(adapter)):
        return str(adapter)  # as a run's settings.json has it
    if adapter.suffix == ".safetensors" and adapter.is_file():
        adapter = adapter.parent
    if adapter.is_file():
        return _send(device, adapter)
    if not adapter.exists():
        raise ToolkitError(
            f"{adapter} does not exist",
            "Name a folder that peft saved or `toolkit pull` brought, or an adapter.ptd",
        )
    from toolkit.bundle.adapter import write_peft_adapter
    from toolkit.bundle.peft_config import peft_base_model

    manifest = read_json(device, f"{bundle.path}/manifest.json")
    own = read_json(device, f"{bundle.path}/adapter_config.json").get("base_model_name_or_path")
    base = peft_base_model(adapter)
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "adapter.ptd"
        specs = _adapter_specs(device, bundle, Path(folder) / "head.ptd")
        write_peft_adapter(adapter, specs, _lora(manifest, bundle), converted)
        path = _send(device, converted)
    if base and own and base != own:
        say(f"note: {adapter} says that its base model is {base}, the bundle's is {own}")
    return path


def read_json(device: Device, path: str) -> dict[str, Any]:
    """Return a JSON object of the device; an empty one if the file is missing or is no object."""
    try:
        content = json.loads(device.read(path, limit=_MANIFEST_LIMIT))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _lora(manifest: dict[str, Any], bundle: Deployed) -> LoraSettings:
    try:
        return LoraSettings.from_json(manifest["lora"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ToolkitError(
            f"the bundle {bundle.name!r} on the device does not say what adapters it takes",
            "Deploy it again",
        ) from error


def _adapter_specs(device: Device, bundle: Deployed, local: Path) -> "list[TensorSpec]":
    """Return what tensors the bundle's own adapter has, from the head of its file alone."""
    from toolkit.bundle.flat_tensor import FlatTensorReader
    from toolkit.bundle.flat_tensor_header import head_length

    remote = f"{bundle.path}/adapter.ptd"
    entry = device.stat(remote)
    if entry is None or entry.kind != "file":
        raise ToolkitError(f"the bundle {bundle.name!r} has no adapter.ptd", "Deploy it again")
    length = min(head_length(device.read(remote, 0, 64)), entry.size, _HEAD_LIMIT)
    with local.open("wb") as file:
        file.write(device.read(remote, 0, length))
        file.truncate(entry.size)  # a hole where the tensors would be
    return FlatTensorReader(local).specs()


def _send(device: Device, file: Path) -> str:
    digest = sha256_file(file)
    path = f"{device.root}/adapters/{digest[:_NAME_DIGITS]}.ptd"
    if device.sha256([path]).get(path) != digest:
        device.make_directory(f"{device.root}/adapters")
        device.remove(f"{path}.new")
        send_file(device, file, f"{path}.new")
        device.rename(f"{path}.new", path)
    return path
