"""manifest.json: what a bundle is, for people and for the host; the trainer reads only the .pte.

    format, format_version, toolkit
    model         name, origin, revision, license, random_weights, export (what `toolkit export`
                  takes to open the model again), text_module (path of the layers in the model that
                  adapters are for), left_out (what is not text: part -> its number of values)
    family        config.model_type
    shape         layers, hidden_size, intermediate_size, heads, kv_heads, head_dim, vocab_size,
                  tied
    blocks        kind of block, NAME or NAME_frozen without adapters -> its layers
    seq_lens      sequence lengths
    lowering      "mesp", "store-h", "mebp", "ms-bp" or "approx-bp"
    lora          rank, alpha, targets, rslora, rank_pattern, alpha_pattern, layers (of adapters,
                  "" for all), dropout, parameters, start ("seed N" or an adapter's path)
    tokenizer     name, sha256 (toolkit.data.fingerprint), or null for random weights
    quantization  linear, embedding, head (schemes), group, bits_per_weight, mean_error, taken_over
                  (toolkit.quantization.report_summary), tensors (toolkit.quantization.report)
    base          bytes of embedding, blocks (a list), rest, and parameters
    methods       name -> operators, arena_bytes
    files         name -> sha256, bytes; every file of the bundle but manifest.json
    crc32         of all this (toolkit.sealed_json)

Written last: a directory with a manifest is complete.
"""

import json
from pathlib import Path, PurePosixPath
from types import NoneType
from typing import Any

from toolkit import BUNDLE_FORMAT_VERSION, __version__
from toolkit.errors import ToolkitError
from toolkit.files import atomic_file, sha256_file
from toolkit.sealed_json import flaw, seal

NAME = "manifest.json"
FORMAT = "toolkit-bundle"
PROGRAMS = "programs.pte"
BASE = "base.ptd"
ADAPTER = "adapter.ptd"
ADAPTER_CONFIG = "adapter_config.json"
CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
IDENTITY = "identity.ptd"
REQUIRED_FILES = (PROGRAMS, BASE, ADAPTER, ADAPTER_CONFIG, CONFIG, IDENTITY)
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "toolkit": str,
    "model": dict,
    "family": str,
    "shape": dict,
    "blocks": dict,
    "seq_lens": list,
    "lowering": str,
    "lora": dict,
    "tokenizer": (dict, NoneType),
    "quantization": dict,
    "base": dict,
    "methods": dict,
    "files": dict,
}


def write_manifest(directory: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Add format, version, the hashes of all files in `directory` and a checksum, and write it."""
    content = {
        "format": FORMAT,
        "format_version": BUNDLE_FORMAT_VERSION,
        "toolkit": __version__,
        **content,
        "files": {
            path.relative_to(directory).as_posix(): {
                "sha256": sha256_file(path),
                "bytes": path.stat().st_size,
            }
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        },
    }
    manifest = seal(content)
    with atomic_file(directory / NAME, "w") as file:
        json.dump(manifest, file, indent=1)
        file.write("\n")
    return manifest


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read a bundle's manifest and check that all its files are there in their full size.

    Raises:
        ToolkitError: This is not a complete bundle of a known version.
    """
    path = directory / NAME
    if not directory.is_dir() or not path.is_file():
        raise ToolkitError(
            f"{directory} is not a bundle: it has no {NAME}", "Make one with: toolkit export"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _corrupt(directory, f"{NAME} cannot be read") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _corrupt(directory, f"{NAME} is not a bundle's manifest")
    version = manifest.get("format_version")
    if version != BUNDLE_FORMAT_VERSION:
        raise ToolkitError(
            f"{directory} has bundle format version {version}, "
            f"this toolkit reads {BUNDLE_FORMAT_VERSION}",
            "Export the model again with this version",
        )
    if why := flaw(manifest):
        raise _corrupt(directory, f"{NAME} {why}")
    for name, kind in _FIELDS.items():
        if name not in manifest or not isinstance(manifest[name], kind):
            raise _corrupt(directory, f"{NAME} has no valid field '{name}'")
    _check_files(directory, manifest["files"])
    return manifest


def check_hashes(directory: Path, manifest: dict[str, Any]) -> None:
    """Check the SHA-256 of every file.

    Raises:
        ToolkitError: Naming the first file that differs.
    """
    for name, entry in manifest["files"].items():
        try:
            digest = sha256_file(directory / name)
        except OSError as error:
            raise _corrupt(directory, f"{name} cannot be read ({error.strerror})") from error
        if digest != entry["sha256"]:
            raise _corrupt(directory, f"the content of {name} does not match its hash")


def _check_files(directory: Path, files: dict[str, Any]) -> None:
    for name in REQUIRED_FILES:
        if name not in files:
            raise _corrupt(directory, f"{NAME} does not list {name}")
    for name, entry in files.items():
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise _corrupt(directory, f"{NAME} names a file outside the bundle")
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("sha256"), str)
            or not isinstance(entry.get("bytes"), int)
        ):
            raise _corrupt(directory, f"{NAME} has no valid entry for {name}")
        path = directory / name
        if not path.is_file():
            raise _corrupt(directory, f"{name} is missing")
        if path.stat().st_size != entry["bytes"]:
            raise _corrupt(
                directory, f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}"
            )


def _corrupt(directory: Path, why: str) -> ToolkitError:
    return ToolkitError(f"The bundle {directory} is damaged: {why}", "Export or copy it again")
