"""Everything `toolkit inspect` shows, from the manifest; needs no torch."""

from pathlib import Path
from typing import Any

from toolkit.bundle import manifest as manifests
from toolkit.errors import ToolkitError
from toolkit.quantization.report_summary import summarize, worst_first


def inspect_bundle(path: Path, check_hashes: bool = True) -> dict[str, Any]:
    """Return a bundle's manifest with sizes and a summary of the quantization errors.

    Args:
        path: The bundle.
        check_hashes: Also compare the SHA-256 of every file.

    Raises:
        ToolkitError: There is no bundle, or it is damaged.
    """
    manifest = manifests.read_manifest(path)
    if check_hashes:
        manifests.check_hashes(path, manifest)
    try:
        quantization = manifest["quantization"]
        tensors = worst_first(quantization["tensors"])
        return {
            **manifest,
            "sizes": _sizes(manifest),
            "quantization": {**quantization, "summary": summarize(tensors), "tensors": tensors},
            "hashes": "match" if check_hashes else "not checked",
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ToolkitError(
            f"The bundle {path} is damaged: its manifest lacks {error}", "Export it again"
        ) from error


def _sizes(manifest: dict[str, Any]) -> dict[str, int]:
    """Bytes of the frozen weights by part, and of the files."""
    base, files = manifest["base"], manifest["files"]
    blocks = base["blocks"]
    sizes = {"embedding": base["embedding"]}
    if len(set(blocks)) == 1:
        sizes[f"each of {len(blocks)} blocks"] = blocks[0]
    else:
        sizes |= {f"block {i}": size for i, size in enumerate(blocks)}
    sizes |= {
        "all blocks": sum(blocks),
        "final norm, head, rotary frequencies": base["rest"],
        "base.ptd with padding": files[manifests.BASE]["bytes"],
        "adapter.ptd": files[manifests.ADAPTER]["bytes"],
        "programs.pte": files[manifests.PROGRAMS]["bytes"],
        "whole bundle": sum(entry["bytes"] for entry in files.values()),
    }
    return sizes
