"""Load the tokenizer of a bundle, a Hugging Face directory or hub id, or a GGUF file."""

from pathlib import Path
from typing import Any, NamedTuple

from toolkit.bundle.manifest import NAME, read_manifest
from toolkit.errors import ToolkitError

_LINE = "\n"  # no token of SentencePiece joins it with what follows
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


def begin_text(tokenizer: Any, text: str) -> list[int]:
    """Tokenize the beginning of a text, which may be written with the token that begins it.

    The token that some put behind every text is left out, unless it is written.
    """
    tokens = list(tokenizer(text, verbose=False)["input_ids"])
    twice = len(tokens) > 1 and tokens[0] == tokens[1] == tokenizer.bos_token_id
    tokens = tokens[1:] if twice else tokens
    end = [tokenizer.eos_token_id]
    added = tokens[-1:] == end and plain_tokens(tokenizer, text)[-1:] != end
    return tokens[:-1] if added else tokens


def continue_text(tokenizer: Any, text: str) -> list[int]:
    """Tokenize what follows other text, without the space that some put before every text."""
    tokens, twice = plain_tokens(tokenizer, text), plain_tokens(tokenizer, "a") * 2
    if tokenizer.decode(twice, clean_up_tokenization_spaces=False).endswith("aa"):
        return tokens
    before, both = plain_tokens(tokenizer, _LINE), plain_tokens(tokenizer, _LINE + text)
    return both[len(before) :] if both[: len(before)] == before else tokens


def plain_tokens(tokenizer: Any, text: str) -> list[int]:
    """Tokenize a text without the tokens that begin or end one."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


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
