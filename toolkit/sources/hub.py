"""Models on the Hugging Face hub."""

import re
from pathlib import Path

from toolkit.errors import ToolkitError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "README.md"]


def is_hub_id(model: str) -> bool:
    """Whether a string has the form OWNER/NAME."""
    return _HUB_ID.fullmatch(model) is not None


def download(model: str) -> tuple[Path, str]:
    """Download a model's weights, configuration and tokenizer into the hub's cache.

    Returns:
        The directory and the repository's commit.

    Raises:
        ToolkitError: It does not exist, needs a login, or cannot be reached and is not cached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        directory = Path(snapshot_download(model, allow_patterns=_WANTED, ignore_patterns=["*/*"]))
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
    return directory, directory.name
