"""Which tokenizer data was made with, and whether a bundle has the same.

Manifest of a bundle and data.json both have a field "tokenizer": {"name", "sha256"}, or null where
there is no tokenizer (random weights, and random tokens made for them).

data.json has "chat_template": {"name", "sha256"} of the file that took the place of the tokenizer's
own template, or null. The two are kept apart on purpose. The tokenizer ties data to a bundle: ids
must mean the same to both, and they do whatever template put the tokens in a row, so data of any
template fits. The template tells data from data: it is a file of the data directory, whose digest
a run is started with and resumes with.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from toolkit.data.template import ChatTemplate
from toolkit.errors import ToolkitError

DATA_FORMAT_VERSION = 2
"""Of data.json and the token files beside it. Raise it, here and in the app, whenever data made
before would no longer be taken."""


def describe_tokenizer(tokenizer: Any, name: str | None = None) -> dict[str, str]:
    """Return what a manifest says of a tokenizer.

    Args:
        tokenizer: A Hugging Face tokenizer.
        name: What to call it; by default after the folder or hub id that it was loaded from.

    Returns:
        "name", and "sha256" of vocabulary and the chat template that comes with it.
    """
    vocabulary = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    template = json.dumps(tokenizer.chat_template, sort_keys=True)
    digest = hashlib.sha256(f"{vocabulary}\n{template}".encode()).hexdigest()
    return {"name": name or _origin(tokenizer.name_or_path), "sha256": digest}


def describe_template(template: ChatTemplate | None) -> dict[str, str] | None:
    """Return what data.json says of a template that is not the tokenizer's own, or None."""
    return {"name": template.name, "sha256": template.sha256} if template else None


def check_version(data_manifest: dict[str, Any], data: str) -> None:
    """Raise unless data.json is of the version that is read here; messages call it `data`."""
    version = data_manifest.get("version")
    if version != DATA_FORMAT_VERSION:
        raise ToolkitError(
            f"{data} has data format version {version}, this toolkit reads {DATA_FORMAT_VERSION}",
            "Make it again with: toolkit data FILE --tokenizer BUNDLE",
        )


def check_same_tokenizer(
    bundle_manifest: dict[str, Any],
    data_manifest: dict[str, Any],
    *,
    bundle: str = "the bundle",
    data: str = "the data",
) -> None:
    """Check that data was made with the tokenizer of a bundle.

    A bundle without a tokenizer has random weights, to which all tokens are alike: it takes any
    data that its vocabulary allows.

    Args:
        bundle_manifest: Content of manifest.json.
        data_manifest: Content of data.json.
        bundle: What the message calls the bundle, e.g. "bundle 'qwen'" or its folder.
        data: What the message calls the data.

    Raises:
        ToolkitError: It was made with another tokenizer, as random tokens for another bundle, or
            by a version that did not say.
    """
    check_version(data_manifest, data)
    wanted, found = bundle_manifest.get("tokenizer"), data_manifest.get("tokenizer")
    if wanted is None or (found is not None and found["sha256"] == wanted["sha256"]):
        return
    made = f"with the tokenizer of {found['name']}" if found else "of random tokens for another"
    raise ToolkitError(
        f"{data} was made {made}, {bundle} has the tokenizer of {wanted['name']}",
        "Make it again with: toolkit data FILE --tokenizer BUNDLE",
    )


def _origin(name: str) -> str:
    """Return the name of a bundle's tokenizer, a folder's last part, or a hub id as it is."""
    path = Path(name)
    if not path.exists():
        return name or "unknown"
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        return str(manifest["tokenizer"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return path.resolve().name
