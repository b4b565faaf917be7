"""The tokenizer of a model's directory or GGUF file, splitting text as it did in training."""

from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError

# Values of tokenizer.ggml.pre, as llama.cpp names them.
_DIGITS = ("smollm", "refact", "starcoder")
_GPT2 = ("default", "gpt-2", "olmo", "mpt")


def open_tokenizer(path: Path) -> Any:
    """Return a Hugging Face tokenizer.

    A directory's tokenizer.json is taken as it is: `transformers` builds some classes anew around
    its vocabulary, `LlamaTokenizer` for one, and these split text in another way.

    Args:
        path: A directory or a .gguf file.

    Raises:
        OSError, ValueError, KeyError, ImportError: `transformers` cannot load it.
        ToolkitError: A GGUF file splits text in a way that is not known.
    """
    # Imported late: transformers takes seconds, and `--help` should not.
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if path.suffix == ".gguf":
        return _of_gguf(path, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name))
    if (path / "tokenizer.json").is_file() and (path / "tokenizer_config.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(path)
    return AutoTokenizer.from_pretrained(path)


def _of_gguf(path: Path, tokenizer: Any) -> Any:
    """Split text as the file says where `transformers` does not know its way and takes GPT-2's."""
    import gguf
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    reader = gguf.GGUFReader(path)
    fields = (reader.get_field(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    kind, way = (field.contents() if field else None for field in fields)
    if kind != "gpt2" or way in (None, *GGUF_PRE_TOKENIZER_SPLITS, *_GPT2):
        return tokenizer
    if way not in _DIGITS:
        raise ToolkitError(
            f"{path} splits text in a way that is not known ({way})",
            "Take the model as a Hugging Face directory instead",
        )
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer
