"""Where merged models go: complete or absent, and nothing but an older one is replaced."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf

from toolkit.bundle.output import new_directory
from toolkit.errors import ToolkitError

MARK = "<!-- Written by toolkit; replaced without asking. Remove this line to keep yours. -->"
"""Line of a card that says that it is ours."""
MERGED = "toolkit.merged"
"""Key of a GGUF file that has an adapter folded in."""
_ANOTHER = "Choose another output, or remove it"


@contextmanager
def new_model_directory(output: Path, read: Iterable[Path]) -> Iterator[Path]:
    """Yield a directory that becomes `output` when the block ends without an error.

    Args:
        output: The directory.
        read: What the model is made of, which may not lie in there.

    Raises:
        ToolkitError: `output` holds something that is not a model merged before.
    """
    for path in read:
        if path.resolve().is_relative_to(output.resolve()):
            raise ToolkitError(f"{path} lies in {output}, which would be replaced", _ANOTHER)
    check_target(output)
    with new_directory(output) as directory:
        yield directory


def check_target(output: Path) -> None:
    """Refuse to replace anything but a directory that an earlier merge wrote."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ToolkitError(f"{output} is not a directory", _ANOTHER)
    if not output.is_dir() or not any(output.iterdir()):
        return
    # The card of a run is ours, too.
    run = any((output / name).exists() for name in ("adapter_config.json", "trace.jsonl"))
    if run or not is_ours(output / "README.md"):
        raise ToolkitError(f"{output} exists and is not a merged model", _ANOTHER)


def check_file_target(output: Path, key: str) -> None:
    """Refuse to write over anything but a .gguf file with a key that tells what was written before.

    Raises:
        ToolkitError: `output` is something else, or has another ending.
    """
    if output.suffix.lower() != ".gguf":
        raise ToolkitError(f"{output} does not end in .gguf", "Name the file so with -o")
    if output.exists() and not output.is_file():
        raise ToolkitError(f"{output} is not a file", _ANOTHER)
    if output.exists() and not _has_key(output, key):
        raise ToolkitError(f"{output} exists and was not written by this command", _ANOTHER)
    output.parent.mkdir(parents=True, exist_ok=True)


def _has_key(file: Path, key: str) -> bool:
    try:
        return gguf.GGUFReader(file).get_field(key) is not None
    except (ValueError, KeyError, IndexError, OSError, OverflowError):
        return False


def is_ours(card: Path) -> bool:
    """Whether a card is one that the toolkit wrote."""
    try:
        return MARK in card.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
