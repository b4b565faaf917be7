"""Bundles and data sets on this machine, held against the digests in their manifests before use.

What was damaged since it was made (a bad disk, a broken copy, an edit) would train to another
result without a word.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from toolkit.data.fingerprint import check_same_tokenizer
from toolkit.device.transfer import LocalFile, scan
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file
from toolkit.sealed_json import flaw

MANIFESTS = {"bundle": "manifest.json", "data set": "data.json"}
_MAKE = {
    "bundle": "toolkit export MODEL -o bundle",
    "data set": "toolkit data FILE --tokenizer bundle -o data",
}


def checked_files(folder: Path, what: str) -> list[LocalFile]:
    """Return the files of a "bundle" or "data set" to send: those of its manifest, and that.

    Raises:
        ToolkitError: The folder is none, or a file is missing or not what it was when it was made.
    """
    listed = _listed(folder, what)
    present = {file.name: file for file in scan(folder)}
    for name, digest in listed.items():
        if name not in present:
            raise _damaged(folder, what, f"{name} is missing")
        if present[name].sha256 != digest:
            raise _damaged(folder, what, f"{name} does not match its SHA-256")
    wanted = {*listed, MANIFESTS[what]}
    return [file for name, file in present.items() if name in wanted]


def check_data(data: Path, part: str, bundle: Path) -> None:
    """Check that a part of a data set ("train.ptd") is whole and made for a bundle.

    Raises:
        ToolkitError: It is damaged, or was made with another tokenizer than the bundle's.
    """
    digest = _listed(data, "data set").get(part)
    if digest is not None and sha256_file(data / part) != digest:
        raise _damaged(data, "data set", f"{part} does not match its SHA-256")
    check_tokenizer(bundle, data)


def check_tokenizer(bundle: Path, data: Path) -> None:
    """Raise unless data was made with the tokenizer of a bundle."""
    check_same_tokenizer(
        read_manifest(bundle, "bundle"),
        read_manifest(data, "data set"),
        bundle=str(bundle),
        data=str(data),
    )


def read_manifest(folder: Path, what: str) -> dict[str, Any]:
    """Return the content of manifest.json or data.json.

    Raises:
        ToolkitError: The folder has none, or it is damaged.
    """
    path = folder / MANIFESTS[what]
    if not path.is_file():
        raise ToolkitError(
            f"{folder} is not a {what} (it has no {path.name})", f"Run `{_MAKE[what]}`"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(folder, what, f"{path.name} cannot be read") from error
    if not isinstance(content, dict):
        raise _damaged(folder, what, f"{path.name} is no object")
    if why := flaw(content):
        raise _damaged(folder, what, f"{path.name} {why}")
    return content


def _listed(folder: Path, what: str) -> dict[str, str]:
    """Return the digest of every file that the manifest lists."""
    files: Any = read_manifest(folder, what).get("files")
    try:
        digests = {name: entry["sha256"] for name, entry in files.items()}
    except (AttributeError, KeyError, TypeError):
        raise _damaged(folder, what, f"{MANIFESTS[what]} lists no files") from None
    for name in digests:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise _damaged(folder, what, f"{MANIFESTS[what]} names a file outside of it")
    return digests


def _damaged(folder: Path, what: str, why: str) -> ToolkitError:
    return ToolkitError(
        f"the {what} {folder} is damaged: {why}", f"Copy it again or make it anew: `{_MAKE[what]}`"
    )
