"""The tokenizer of a model's directory or GGUF file, splitting text as it did in training."""

import json
from pathlib import Path
from typing import Any

_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


def open_tokenizer(path: Path) -> Any:
    """Return a Hugging Face tokenizer.

    A directory's tokenizer.json is taken as it is: `transformers` builds some classes anew around
    its vocabulary, `LlamaTokenizer` for one, and these split text in another way. Where it does not
    say how a text ends, the special tokens are those of its class.

    Args:
        path: A directory or a .gguf file.

    Raises:
        OSError, ValueError, KeyError, ImportError: `transformers` cannot load it.
        ToolkitError: A GGUF file splits text in a way that is not known.
    """
    # Imported late: transformers takes seconds, and `--help` should not.
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if path.suffix == ".gguf":
        from toolkit.sources.gguf_tokenizer import open_gguf_tokenizer

        return open_gguf_tokenizer(path)
    config = path / "tokenizer_config.json"
    if not ((path / "tokenizer.json").is_file() and config.is_file()):
        return AutoTokenizer.from_pretrained(path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    stated = json.loads(config.read_text(encoding="utf-8"))
    if "eos_token" not in stated and tokenizer.eos_token is None:
        roles = [role for role in _ROLES if role not in stated]
        _take_roles(tokenizer, AutoTokenizer.from_pretrained(path), roles)
    return tokenizer


def _take_roles(tokenizer: Any, of_class: Any, roles: list[str]) -> None:
    """Give a tokenizer the special tokens of its class, as far as its vocabulary has them."""
    vocabulary = tokenizer.get_vocab()
    for role in roles:
        token = getattr(of_class, role)
        if token in vocabulary and getattr(tokenizer, role) is None:
            setattr(tokenizer, role, token)
