"""A tokenizer as a GGUF file has it: tokens, merges or scores, and how text is split.

llama.cpp knows ways to split text by name. The one is taken that splits as the tokenizer does.
"""

import json
from typing import Any

import gguf
from tokenizers import Tokenizer

from toolkit.errors import ToolkitError
from toolkit.sources.gguf_tokenizer import WAYS

_REMEDY = "Merge to a directory, and convert that with llama.cpp's convert_hf_to_gguf.py"
_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
_TEXTS = (
    "I'm fine, he'LL do; you 'dare x's they'Ve",
    "2024 12345 and 1,000.50 a1b22c333d4444",
    "x=1+2;\n\n  y *= 3 // z\r\n\t\tw/\n/\n",
    "a  b\n\n  c \t d\u00a0e \n f  ",
    "caf\u00e9 NA\u00cfVE HTTPServer iPhone \u6771\u4eac\u3002",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "$5 <a|b> ^~ ...!? (x) 'quoted' \u0663\u0664\u0665 \u00bd \U0001f600\U0001f600",
)
_NFC = {"type": "NFC"}


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Any, size: int) -> None:
    """Add the keys of a tokenizer.

    Args:
        writer: Of the file.
        tokenizer: A Hugging Face tokenizer.
        size: Rows of the embedding; ids that are no token are filled up to there.

    Raises:
        ToolkitError: llama.cpp has no such tokenizer.
    """
    backend: Tokenizer = tokenizer.backend_tokenizer
    content = json.loads(backend.to_str())
    if content["model"]["type"] != "BPE":
        raise ToolkitError(
            f"a GGUF file has no tokenizer of the kind {content['model']['type']}", _REMEDY
        )
    pieces = bool(content["model"].get("byte_fallback"))
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    writer.add_tokenizer_pre("default" if pieces else _way(backend, content))
    _add_tokens(writer, content, size, pieces)
    if pieces:
        writer.add_token_scores(_scores(content, size))
        begins = backend.encode("a", add_special_tokens=False).tokens[0]
        writer.add_add_space_prefix(begins.startswith(_MARK))
    else:
        writer.add_token_merges([" ".join(pair) for pair in _merges(content)])
    _add_special(writer, tokenizer, size)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if template:
        writer.add_chat_template(template)


def _way(backend: Tokenizer, content: dict[str, Any]) -> str:
    """Return what llama.cpp calls the way in which a tokenizer splits text."""
    whole, normalizer = bool(content["model"].get("ignore_merges")), content["normalizer"]
    splitter = backend.pre_tokenizer
    for name, way in WAYS.items():
        if splitter is None or way.whole != whole or normalizer != (_NFC if way.composed else None):
            continue
        pieces = [splitter.pre_tokenize_str(text) for text in _TEXTS]
        if pieces == [way.splitter.pre_tokenize_str(text) for text in _TEXTS]:
            return name
    raise ToolkitError("llama.cpp has no name for how this tokenizer splits text", _REMEDY)


def _add_tokens(writer: gguf.GGUFWriter, content: dict[str, Any], size: int, pieces: bool) -> None:
    tokens = [f"[PAD{index}]" for index in range(size)]
    kinds = [gguf.TokenType.UNUSED] * size
    for token, index in content["model"]["vocab"].items():
        if index < size:
            tokens[index], kinds[index] = token, gguf.TokenType.NORMAL
            if pieces and len(token) == len("<0x00>") and token.startswith("<0x"):
                kinds[index] = gguf.TokenType.BYTE
    for added in content["added_tokens"]:
        if added["id"] < size:
            special = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
            # llama.cpp looks for these in the text as it is, before spaces become marks.
            plain = pieces and not added["special"]
            text = added["content"].replace(_MARK, " ") if plain else added["content"]
            tokens[added["id"]], kinds[added["id"]] = text, special
    unknown = content["model"].get("unk_token")
    if pieces and unknown in content["model"]["vocab"]:
        kinds[content["model"]["vocab"][unknown]] = gguf.TokenType.UNKNOWN
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)


def _merges(content: dict[str, Any]) -> list[list[str]]:
    pairs = content["model"]["merges"]
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in pairs]


def _scores(content: dict[str, Any], size: int) -> list[float]:
    """Return scores of SentencePiece: the token that is merged first has the highest.

    Raises:
        ToolkitError: The ways to merge a token do not follow each other, so that one score of it
            would say another order.
    """
    vocabulary: dict[str, int] = content["model"]["vocab"]
    scores = [0.0] * size
    made = ["".join(pair) for pair in _merges(content)]
    runs = [token for token, before in zip(made, ["", *made], strict=False) if token != before]
    # Gemma has the longest runs of a character first, and again behind others, to the same end.
    once = [token for token in runs if len(set(token)) > 1]
    if len(set(once)) < len(once):
        raise ToolkitError("the tokenizer's merges are not SentencePiece's", _REMEDY)
    for rank, token in enumerate(dict.fromkeys(runs), 1):
        if vocabulary[token] < size:
            scores[vocabulary[token]] = -float(rank)
    return scores


def _add_special(writer: gguf.GGUFWriter, tokenizer: Any, size: int) -> None:
    known = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    for name, index in known.items():
        if index is not None and index < size:
            getattr(writer, f"add_{name}_token_id")(index)
    tokens = list(tokenizer("a", verbose=False)["input_ids"])
    writer.add_add_bos_token(_is(tokens[:1], known["bos"]))
    writer.add_add_eos_token(_is(tokens[-1:], known["eos"]))


def _is(tokens: list[int], token: int | None) -> bool:
    return token is not None and tokens == [token]
