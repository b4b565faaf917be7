"""Where weights come from: a Hugging Face directory or hub id, a GGUF file, or a generator."""

import json
from pathlib import Path

from toolkit.errors import ToolkitError
from toolkit.sources.base import Source

__all__ = ["Source", "find_gguf", "open_source"]

MANIFEST = "manifest.json"


def open_source(model: str, revision: str = "") -> Source:
    """Open a model by what the user calls it.

    Args:
        model: A directory with safetensors files, a .gguf file, or a hub id such as
            "Qwen/Qwen2.5-0.5B-Instruct", which is downloaded or taken from the cache.
        revision: Of a hub id; empty: the newest.

    Raises:
        ToolkitError: There is no such model, or it is stored in a way that cannot be read.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        if (path / MANIFEST).is_file():
            raise ToolkitError(
                f"{path} is a bundle, which an export has made already",
                f"Use it as it is, or give the model it was made of ({_made_of(path)})",
            )
        from toolkit.sources.huggingface import HuggingFaceSource

        return HuggingFaceSource(path)
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ToolkitError(
                f"{path} is neither a directory nor a .gguf file",
                "Give the directory that holds config.json and the safetensors files",
            )
        from toolkit.sources.gguf import GgufSource

        return GgufSource(path)
    from toolkit.sources.hub import download, is_hub_id

    if path.suffix.lower() == ".gguf" or not is_hub_id(model):
        raise ToolkitError(
            f"{model} does not exist",
            "Give a directory, a .gguf file or a hub id such as Qwen/Qwen2.5-0.5B-Instruct",
        )
    from toolkit.sources.huggingface import HuggingFaceSource

    directory, commit = download(model, revision)
    return HuggingFaceSource(directory, name=model, revision=commit)


def find_gguf(folder: Path, name: str) -> Path:
    """Return the GGUF file of a model in a folder: the one of its name, or the only one.

    Raises:
        ToolkitError: There is none, or it cannot be told from others.
    """
    named = folder / f"{name}.gguf"
    if name and named.is_file():
        return named
    found = sorted(folder.glob("*.gguf"))
    if len(found) != 1:
        what = "several .gguf files" if found else "neither config.json nor a .gguf file"
        raise ToolkitError(f"the base model's folder {folder} has {what}")
    return found[0]


def _made_of(bundle: Path) -> str:
    try:
        return str(json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))["model"]["origin"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"see {MANIFEST}"
