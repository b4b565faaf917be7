"""Load the tokenizer of a bundle, a Hugging Face directory or hub id, or a GGUF file."""

from pathlib import Path
from typing import Any, NamedTuple

from toolkit.bundle.manifest import NAME, read_manifest
from toolkit.errors import ToolkitError

_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")


def load_tokenizer(source: str) -> Any:
    """Return a Hugging Face tokenizer.

    Args:
        source: A bundle, a directory as Hugging Face saves it, a hub id, or a .gguf file.

    Raises:
        ToolkitError: There is none, for example in a bundle of random weights.
    """
    # Imported late: transformers takes seconds, and `--help` should not.
    from transformers import AutoTokenizer

    path = Path(source)
    if path.is_dir() and not any((path / name).exists() for name in _FILES):
        raise ToolkitError(
            f"{source} has no tokenizer", "Name a model's directory, or use --random for tokens"
        )
    options: dict[str, Any] = {}
    if path.suffix == ".gguf":
        source, options = str(path.parent), {"gguf_file": path.name}
    try:
        return AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ToolkitError(
            f"cannot load a tokenizer from {source}: {reason}",
            "Name a bundle, a model's directory or a hub id",
        ) from error


class BundleFacts(NamedTuple):
    """What data needs to know of the bundle that it is for."""

    seq_lens: list[int]
    vocab_size: int
    tokenizer: dict[str, str] | None


def bundle_metadata(source: str | Path) -> BundleFacts | None:
    """Return what data needs to know of a bundle, or None if `source` is not one."""
    directory = Path(source)
    if not (directory / NAME).is_file():
        return None
    manifest = read_manifest(directory)
    return BundleFacts(manifest["seq_lens"], manifest["shape"]["vocab_size"], manifest["tokenizer"])
