"""Whether the files of a run are what the trainer and this toolkit wrote.

On the way from a device they are checked by its digests; damage that was there before has the same
digest and is found by what the files say of themselves. A trace has no checksum: its lines are read
one by one, and those that cannot be read are named by `toolkit analyze`.
"""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

from toolkit.device.adapters import read_json
from toolkit.device.base import Device
from toolkit.device.kept import ADAPTER, CHECKPOINTS
from toolkit.device.kept import CONFIG as ADAPTER_CONFIG
from toolkit.device.layout import bundle_path, read_marker
from toolkit.device.run_settings import SETTINGS, Settings, parse_settings
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file
from toolkit.safetensors_checksum import is_intact, lacks_checksum
from toolkit.sealed_json import is_sealed

STATE = "state.bin"
_CHUNK = 1 << 20
_CHECKSUM_BYTES = 4


def check_pulled(folder: Path, run: str, device: Device) -> None:
    """Check the files of a run that was pulled.

    Args:
        folder: Where they are.
        run: The run's name.
        device: Where they came from. The adapter's configuration is a copy of the bundle's and is
            held against the manifest there, while the bundle is there.

    Raises:
        ToolkitError: One is damaged; all are where they were put.
    """
    checks: dict[str, Callable[[Path], bool]] = {
        SETTINGS: _settings_intact,
        ADAPTER: lambda path: is_intact(path) or lacks_checksum(path),
        ADAPTER_CONFIG: lambda path: _config_intact(path, device),
        STATE: _state_intact,
    }
    for path in folder.glob(f"{CHECKPOINTS}/step-*/{ADAPTER}"):
        checks[path.relative_to(folder).as_posix()] = is_intact
    damaged = [
        name
        for name, intact in checks.items()
        if (folder / name).is_file() and not intact(folder / name)
    ]
    if damaged:
        raise ToolkitError(
            f"{' and '.join(damaged)} of run {run!r} {'is' if len(damaged) == 1 else 'are'} "
            f"damaged on device {device.spec}, or of an earlier version",
            f"What was pulled is in {folder} as it is there; do not use what is damaged",
        )


def _settings_intact(path: Path) -> bool:
    return parse_settings(path.read_bytes()) is not None


def _config_intact(path: Path, device: Device) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    settings = path.with_name(SETTINGS)
    known = parse_settings(settings.read_bytes()) if settings.is_file() else None
    digest = _digest(device, known or {}, ADAPTER_CONFIG)
    return isinstance(content, dict) and digest in (None, sha256_file(path))


def _digest(device: Device, settings: Settings, name: str) -> str | None:
    """Return what the manifest of a run's bundle says of a file, if that bundle is still there."""
    bundle = settings.get("bundle")
    if bundle is None:
        return None
    path = bundle_path(device, str(bundle))
    marker = read_marker(device, path)
    if marker is None or marker.sha256 != settings.get("bundle-sha256"):
        return None  # another one has its name by now
    manifest = read_json(device, f"{path}/manifest.json")
    try:
        return str(manifest["files"][name]["sha256"]) if is_sealed(manifest) else None
    except (KeyError, TypeError):
        return None


def _state_intact(path: Path) -> bool:
    """Whether the last four bytes are the CRC-32 of those before."""
    left, found = path.stat().st_size - _CHECKSUM_BYTES, 0
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            found = zlib.crc32(chunk, found)
            left -= len(chunk)
        return left == 0 and file.read() == found.to_bytes(_CHECKSUM_BYTES, "little")
