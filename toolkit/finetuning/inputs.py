"""What bundle and data were made of, kept beside them, so that nothing is made twice.

Files of data go by their SHA-256, weights by size and time of change: when those change but not
what is exported, nothing after the export is done again, since bundles go by their digests. What is
on the hub counts as what was downloaded first.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.files import atomic_file, sha256_file
from toolkit.finetuning.wish import Wish
from toolkit.recipes import recipe_of
from toolkit.sealed_json import CHECKSUM, is_sealed

NAME = "inputs.json"
Inputs = Mapping[str, Any]


class Record:
    """The file that says what the parts of a folder were made of.

    Args:
        folder: It need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        content = _read(self._path)
        self._parts: dict[str, Any] = content if isinstance(content, dict) else {}

    def reason(self, part: str, inputs: Inputs, manifest: Path) -> str:
        """Return why a part has to be made, "" if it is there and its inputs are the same.

        Args:
            manifest: The part's own, which tells by its checksum whether it is still that part.
        """
        entry, made = self._parts.get(part), _checksum(manifest)
        if made is None or not isinstance(entry, dict):
            return "it is not there yet" if made is None else "what it was made of is not known"
        if entry.get("made") != made:
            return "something else was put there"
        before = entry.get("inputs")
        before = before if isinstance(before, dict) else {}
        wanted = json.loads(json.dumps(inputs))
        different = [name for name in wanted if wanted[name] != before.get(name)]
        return f"changed: {', '.join(different)}" if different else ""

    def note(self, part: str, inputs: Inputs, manifest: Path) -> None:
        """Remember what a part was made of."""
        self._parts[part] = {"inputs": inputs, "made": _checksum(manifest)}
        with atomic_file(self._path, "w") as file:
            file.write(json.dumps(self._parts, indent=1) + "\n")


def export_inputs(wish: Wish) -> Inputs:
    """Return what a bundle follows from."""
    path, recipe = Path(wish.model).expanduser(), recipe_of(wish.model)
    if recipe is not None:
        return {"model": repr(recipe), "options": wish.export_options}
    model = _stamps(path) if path.exists() else wish.model
    return {"model": model, "options": wish.export_options}


def data_inputs(wish: Wish, bundle: Mapping[str, Any]) -> Inputs:
    """Return what data follows from; `bundle` is the content of the bundle's manifest."""
    options = dict(wish.data_options)
    if "me" in options:  # whose messages these are stays with the user
        options["me"] = sha256(options["me"].encode()).hexdigest()
    return {
        "files": [_source(Path(name)) for name in wish.files],
        "options": options,
        "tokenizer": bundle["tokenizer"],
        "sequence length": max(bundle["seq_lens"]),
    }


def require_files(wish: Wish) -> None:
    """Raise unless everything that data is to be made of is a file, a data set or a hub id."""
    from toolkit.data.hub_datasets import is_dataset

    for name in wish.files:
        path = Path(name)
        explicit = name.startswith((".", "/", "~"))
        if not path.exists() and (explicit or not is_dataset(path)):
            raise ToolkitError(f"cannot read {name}: No such file or directory")


def _source(path: Path) -> str:
    if path.is_file():
        return sha256_file(path)
    return _stamps(path) if path.is_dir() else str(path)


def _stamps(path: Path) -> str:
    """Return a digest of names, sizes and times of change of a file, or of a folder's files."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    lines = []
    for file in files:
        name = file.relative_to(path) if path.is_dir() else file.name
        lines.append(f"{name} {file.stat().st_size} {file.stat().st_mtime_ns}\n")
    return sha256("".join(lines).encode()).hexdigest()


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _checksum(manifest: Path) -> str | None:
    content = _read(manifest)
    if not isinstance(content, dict) or not is_sealed(content):
        return None
    return str(content[CHECKSUM])
