"""Models on the Hugging Face hub."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.errors import ToolkitError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TOKENIZER = ["*.json", "*.txt", "*.model", "*.jinja"]
_WANTED = [*_TOKENIZER, "*.safetensors", "README.md"]


def is_hub_id(model: str) -> bool:
    """Whether a string has the form OWNER/NAME."""
    return _HUB_ID.fullmatch(model) is not None


def download_config(model: str, revision: str = "") -> Path:
    """Download a model's configuration alone and return its path in the hub's cache.

    Args:
        model: Hub id.
        revision: Commit, branch or tag; empty: the newest.

    Raises:
        ToolkitError: As `download`.
    """
    from huggingface_hub import hf_hub_download

    with _readable_errors(model):
        return Path(hf_hub_download(model, "config.json", revision=revision or None))


def download(model: str, revision: str = "") -> tuple[Path, str]:
    """Download a model's weights, configuration and tokenizer into the hub's cache.

    Args:
        model: Hub id.
        revision: Commit, branch or tag; empty: the newest.

    Returns:
        The directory and the repository's commit.

    Raises:
        ToolkitError: It does not exist, needs a login, or cannot be reached and is not cached.
    """
    directory = _snapshot(model, _WANTED, revision)
    return directory, directory.name


def download_tokenizer(model: str) -> Path:
    """Download a model's tokenizer, without weights, and return its directory in the hub's cache.

    Raises:
        ToolkitError: As `download`.
    """
    return _snapshot(model, _TOKENIZER)


def _snapshot(model: str, patterns: list[str], revision: str = "") -> Path:
    from huggingface_hub import snapshot_download

    with _readable_errors(model):
        found = snapshot_download(
            model, revision=revision or None, allow_patterns=patterns, ignore_patterns=["*/*"]
        )
        return Path(found)


@contextmanager
def _readable_errors(model: str) -> Iterator[None]:
    """Turn the client's errors into ours."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise ToolkitError(
            f"{model} needs its licence to be accepted on the hub",
            "Accept it there, then run: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise ToolkitError(
            f"{model} is not on the hub", "Check the spelling; private models need: hf auth login"
        ) from error
    except Exception as error:  # the client raises errors of several libraries
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else error
        raise ToolkitError(
            f"Cannot download {model}: {reason}",
            "Check the connection, or give a local directory",
        ) from error
