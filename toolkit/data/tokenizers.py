"""Load the tokenizer of a bundle, a Hugging Face directory or hub id, or a GGUF file."""

from pathlib import Path
from typing import Any, NamedTuple

from toolkit.bundle.manifest import NAME, read_manifest
from toolkit.errors import ToolkitError

_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")


def check_source(source: str) -> None:
    """Check that a tokenizer's source is there, or may be on the hub.

    Raises:
        ToolkitError: It is neither a path that exists nor a hub id.
    """
    from toolkit.sources.hub import is_hub_id

    path = Path(source).expanduser()
    if not path.exists() and (path.suffix == ".gguf" or not is_hub_id(source)):
        raise ToolkitError(
            f"there is no tokenizer at {source}",
            "Name a bundle, a model's directory, a .gguf file or a hub id (OWNER/NAME)",
        )


def load_tokenizer(source: str) -> Any:
    """Return a Hugging Face tokenizer.

    Args:
        source: A bundle, a directory as Hugging Face saves it, a hub id, or a .gguf file.

    Raises:
        ToolkitError: There is none, for example in a bundle of random weights.
    """
    from toolkit.sources.hub import download_tokenizer
    from toolkit.sources.tokenizer import open_tokenizer

    path = Path(source).expanduser()
    if not path.exists():  # `check_source` has seen that it has the form of a hub id
        path = download_tokenizer(source)
    if path.is_dir() and not any((path / name).exists() for name in _FILES):
        raise ToolkitError(
            f"{source} has no tokenizer", "Name a model's directory, or use --random for tokens"
        )
    try:
        return open_tokenizer(path)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
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
