"""What leaves for other programs: merged models and adapters of llama.cpp."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.exchange.merging import Merged

Place = str | PathLike[str]
OnBytes = Callable[[int, int], None]

FORMATS = ("directory", "gguf")
TYPES = ("auto", "f32", "f16", "bf16", "q8_0", "q4_1", "q4_0")


@dataclass(frozen=True)
class Converted:
    """An adapter in another format: the file, and how many weights it changes."""

    path: Path
    weights: int
    nbytes: int


def _nothing(done: int, total: int) -> None:
    """Show no progress."""


def merge(
    adapter: Place,
    output: Place,
    *,
    base: Place | None = None,
    to: str = "directory",
    type: str = "auto",
    progress: OnBytes = _nothing,
) -> "Merged":
    """Fold an adapter into its model's weights, for programs that know no adapters.

    Args:
        adapter: Folder of a PEFT adapter, as `pull` brings it.
        output: Directory or .gguf file to write; `to` says which.
        base: The model as `export` takes it, or a bundle; None: what the adapter names, else the
            run's bundle near it, dequantized.
        to: "directory", as `transformers` loads it, or "gguf", as llama.cpp does, with the
            tokenizer.
        type: Numbers of the directory or of a GGUF file: "f32", "f16", "bf16", there also "q8_0",
            "q4_1", "q4_0". Where the model is a GGUF file, of the weights that the adapter changes;
            the others stay byte by byte. "auto" is what the model has, "f16" in a GGUF file, "q8_0"
            where the model is one.
        progress: Told bytes written and bytes in all.

    Raises:
        ToolkitError: The model is not to be found, the adapter is not one of it, or llama.cpp
            has no such model or tokenizer.

    Example:
        >>> merged = toolkit.merge("runs/run1", "merged", type="f32")
        >>> merged.original, merged.weights
        (True, 14)
    """
    from toolkit.exchange.base import find_base
    from toolkit.exchange.gguf_model import merge_to_gguf
    from toolkit.exchange.merging import FLOATS, merge_to_directory

    if to not in FORMATS or type not in TYPES:
        wrong, known = (to, FORMATS) if to not in FORMATS else (type, TYPES)
        raise ToolkitError(f"{wrong!r} is not known", f"Choose from {', '.join(known)}")
    if to == "directory" and type not in ("auto", *FLOATS):
        raise ToolkitError(
            f"a directory has no {type} numbers", f"Choose from {', '.join(FLOATS)}, or write gguf"
        )
    folder = Path(adapter)
    found = find_base(folder, None if base is None else fspath(base))
    write = merge_to_gguf if to == "gguf" else merge_to_directory
    return write(folder, Path(output), found, type, progress)


def convert(adapter: Place, output: Place, *, base: Place | None = None) -> Converted:
    """Write an adapter as llama.cpp loads it (`--lora FILE`), beside the model as a GGUF file.

    Args:
        adapter: Folder of a PEFT adapter, as `pull` brings it.
        output: The .gguf file to write.
        base: As in `merge`; only the model's shape is needed.

    Raises:
        ToolkitError: The model is not to be found, or the adapter is not one of it.

    Example:
        >>> toolkit.convert("runs/run1", "run1.gguf").weights
        14
    """
    from toolkit.exchange.base import find_config
    from toolkit.exchange.gguf_adapter import write_gguf_adapter

    folder, path = Path(adapter), Path(output)
    config, name = find_config(folder, None if base is None else fspath(base))
    weights = write_gguf_adapter(folder, path, config, name)
    return Converted(path, weights, path.stat().st_size)
