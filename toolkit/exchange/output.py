"""Where merged models go: complete or absent, and nothing but an older one is replaced."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.bundle.output import new_directory
from toolkit.errors import ToolkitError

MARK = "<!-- Written by toolkit; replaced without asking. Remove this line to keep yours. -->"
"""Line of a card that says that it is ours."""


@contextmanager
def new_model_directory(output: Path) -> Iterator[Path]:
    """Yield a directory that becomes `output` when the block ends without an error.

    Raises:
        ToolkitError: `output` holds something that is not a model merged before.
    """
    check_target(output)
    with new_directory(output) as directory:
        yield directory


def check_target(output: Path) -> None:
    """Refuse to replace anything but a directory that an earlier merge wrote."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ToolkitError(f"{output} is not a directory", "Choose another output")
    if output.is_dir() and any(output.iterdir()) and not is_ours(output / "README.md"):
        raise ToolkitError(
            f"{output} exists and is not a merged model", "Choose another output, or remove it"
        )


def check_file_target(output: Path) -> None:
    """Refuse to write over anything but a .gguf file.

    Raises:
        ToolkitError: `output` is something else, or has another ending.
    """
    if output.suffix.lower() != ".gguf":
        raise ToolkitError(f"{output} does not end in .gguf", "Name the file so with -o")
    if output.exists() and not output.is_file():
        raise ToolkitError(f"{output} is not a file", "Choose another output")
    output.parent.mkdir(parents=True, exist_ok=True)


def is_ours(card: Path) -> bool:
    """Whether a card is one that the toolkit wrote."""
    try:
        return MARK in card.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
