"""The tokenizer of a GGUF file, completed by what llama.cpp does for its way to split text.

A file names a way (`tokenizer.ggml.pre`) and leaves what belongs to it to the program that reads
it: pieces that are a token are taken whole (Llama 3), a text begins with a token (Llama 3), text is
composed first (Qwen, whose models saw it so, though llama.cpp leaves it as it is).
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Regex, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from toolkit.errors import ToolkitError, ToolkitWarning

# Values of tokenizer.ggml.pre, as llama.cpp names them.
_DEFAULT = "default"
_GPT2 = ("gpt-2", "olmo", "mpt")
_DIGITS = ("smollm", "refact", "starcoder")
_WHOLE = (
    *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    *("jina-v5-nano", "tekken"),
)
"""Ways in which a piece that is a token is taken whole, and a text begins with the first token."""
_COMPOSED = ("qwen2", "qwen35")

_GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_DEFAULT_SPLITS = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2_SPLIT, r"\p{N}+", r"[0-9][0-9][0-9]")


@dataclass(frozen=True)
class Way:
    """A way to split text.

    Attributes:
        splitter: Makes pieces of a text.
        whole: Pieces that are a token are taken whole.
        composed: Text is composed first.
    """

    splitter: pre_tokenizers.PreTokenizer
    whole: bool
    composed: bool


def open_gguf_tokenizer(path: Path) -> Any:
    """Return a Hugging Face tokenizer that gives the tokens the file's model was trained with.

    Args:
        path: The .gguf file.

    Raises:
        OSError, ValueError, KeyError, ImportError: `transformers` cannot load it.
        ToolkitError: The file splits text in a way that is not known.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)
    reader = gguf.GGUFReader(path)
    if _field(reader, "model") != "gpt2":
        return tokenizer
    way = _field(reader, "pre") or _DEFAULT
    backend = tokenizer.backend_tokenizer
    if way == _DEFAULT:
        warnings.warn(_unnamed(path), ToolkitWarning, stacklevel=2)
        backend.pre_tokenizer = _splits(*_DEFAULT_SPLITS)
    elif way in _DIGITS:
        backend.pre_tokenizer = _digits()
    elif way not in _GPT2 and way not in GGUF_PRE_TOKENIZER_SPLITS:
        raise ToolkitError(
            f"{path} splits text in a way that is not known ({way})",
            "Take the model as a Hugging Face directory instead",
        )
    if way in _WHOLE:
        backend.model.ignore_merges = True
        if _field(reader, "add_bos_token") is None and tokenizer.bos_token is not None:
            tokenizer.add_bos_token = True
    if way in _COMPOSED:
        backend.normalizer = normalizers.NFC()
    return tokenizer


def _splits(*regexes: str) -> pre_tokenizers.PreTokenizer:
    """Split by each in turn; what none matches is a piece, too."""
    steps = [pre_tokenizers.Split(Regex(regex), "isolated") for regex in regexes]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*steps, last])


def _digits() -> pre_tokenizers.PreTokenizer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def _way(name: str) -> Way:
    if name in _DIGITS:
        splitter = _digits()
    elif name in _GPT2:
        splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        splitter = _splits(GGUF_PRE_TOKENIZER_SPLITS[name])
    return Way(splitter, name in _WHOLE, name in _COMPOSED)


WAYS = {
    name: _way(name)
    for name in (
        "qwen2",
        "deepseek-r1-qwen",
        "llama-bpe",
        "dbrx",
        "gpt-4o",
        "tekken",
        "smollm",
        "gpt-2",
    )
}
"""Ways to split text by llama.cpp's names, one of each kind."""


def _unnamed(path: Path) -> str:
    return (
        f"{path} does not say how its model splits text (tokenizer.ggml.pre): split as llama.cpp "
        "does then, which may not be as in training. Convert the model again with a newer llama.cpp"
    )


def _field(reader: gguf.GGUFReader, name: str) -> Any:
    field = reader.get_field(f"tokenizer.ggml.{name}")
    return None if field is None else field.contents()
