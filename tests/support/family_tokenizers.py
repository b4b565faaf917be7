"""Tokenizers with the components of each model family: normalizer, pre-tokenizer, model, tokens.

`trained` makes one of any size from text; `assembled` puts a family's components around a
vocabulary that is there already.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

Json = dict[str, Any]
MARK = "\N{LOWER ONE EIGHTH BLOCK}"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBERS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_SPACES_MARKED = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}


def _split(regex: str, *, removed: bool = False) -> Json:
    behavior = {"behavior": "Removed" if removed else "Isolated", "invert": removed}
    split = {"type": "Split", "pattern": {"Regex": regex}, **behavior}
    return _sequence(split, {**_BYTE_LEVEL, "use_regex": False})


def _sequence(*steps: Json) -> Json:
    return {"type": "Sequence", "pretokenizers": list(steps)}


_DIGITS = _sequence(
    {"type": "Digits", "individual_digits": True}, {**_BYTE_LEVEL, "use_regex": True}
)


@dataclass(frozen=True)
class Family:
    """What a family's tokenizer.json says besides vocabulary and merges.

    Attributes:
        pre_tokenizer: As in the file; byte-level unless `pieces`.
        size: Tokens of the real vocabulary.
        special: Special tokens, in the order of their ids.
        plain: Added tokens that are not special.
        normalizer: As in the file.
        pieces: Whether it is SentencePiece's kind: characters and bytes for what is no token.
        first: The token that a text begins with.
        strips: Special tokens that take the white space behind them.
        options: Of the model.
        roles: bos_token, eos_token and so on of tokenizer_config.json.
    """

    pre_tokenizer: Json | None
    size: int
    special: tuple[str, ...]
    roles: dict[str, str]
    plain: tuple[str, ...] = ()
    normalizer: Json | None = None
    pieces: bool = False
    first: str | None = None
    strips: tuple[str, ...] = ()
    options: Json = field(default_factory=dict)


_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHATML_ROLES = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
_PHI = ("<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
_PHI_ROLES = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
_LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>")
_GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")

FAMILIES = {
    "smollm2": Family(_DIGITS, 49152, _CHATML, _CHATML_ROLES),
    "llama3.2": Family(
        _split(_CL100K.replace("NUMBERS", r"\p{N}{1,3}")),
        128256,
        (*_LLAMA3, "<|eot_id|>"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        first="<|begin_of_text|>",
        options={"ignore_merges": True},
    ),
    "smollm3": Family(
        _split(_CL100K.replace("NUMBERS", r"\p{N}{1,3}")),
        128256,
        (*_LLAMA3, "<|im_start|>", "<|im_end|>"),
        {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"},
        plain=("<think>", "</think>"),
        options={"ignore_merges": True},
    ),
    "qwen2.5": Family(
        _split(_CL100K.replace("NUMBERS", r"\p{N}")),
        151665,
        _CHATML,
        _CHATML_ROLES,
        plain=("<tool_call>", "</tool_call>"),
        normalizer={"type": "NFC"},
    ),
    "qwen3": Family(
        _split(_CL100K.replace("NUMBERS", r"\p{N}")),
        151669,
        _CHATML,
        _CHATML_ROLES,
        plain=("<tool_call>", "</tool_call>", "<think>", "</think>"),
        normalizer={"type": "NFC"},
    ),
    "gemma3": Family(
        {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        262145,
        (*_GEMMA, "<start_of_turn>", "<end_of_turn>"),
        {
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
        },
        plain=("\n\n", "\n\n\n", MARK * 2, MARK * 3, "\t\t", "<table>", "</table>", "[multimodal]"),
        normalizer=_SPACES_MARKED,
        pieces=True,
        first="<bos>",
    ),
    "phi3": Family(
        None,
        32011,
        ("<unk>", "<s>", "</s>", "<|endoftext|>", *_PHI),
        {"bos_token": "<s>", "unk_token": "<unk>", **_PHI_ROLES},
        normalizer={
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": MARK}, _SPACES_MARKED],
        },
        pieces=True,
        strips=("</s>", *_PHI),
    ),
    "phi4": Family(
        _split(_O200K, removed=True),
        200029,
        ("<|endoftext|>", "<|endofprompt|>", *_PHI),
        {"bos_token": "<|endoftext|>", **_PHI_ROLES},
        strips=_PHI,
    ),
    "olmo2": Family(
        _split(_CL100K.replace("NUMBERS", r"\p{N}{1,3}"), removed=True),
        100278,
        ("<|endoftext|>", "<|pad|>"),
        {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>"},
    ),
    "granite3": Family(
        _DIGITS,
        49155,
        (
            "<|end_of_text|>",
            "<fim_prefix>",
            "<|start_of_role|>",
            "<|end_of_role|>",
            "<|tool_call|>",
        ),
        {"eos_token": "<|end_of_text|>", "pad_token": "<|end_of_text|>"},
    ),
}


def trained(name: str, size: int, lines: Iterable[str]) -> Json:
    """Return a tokenizer.json with a family's components, trained to `size` tokens of text."""
    family = FAMILIES[name]
    special = list(family.special)
    tokenizer = Tokenizer(models.BPE())
    if family.pieces:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"\n+|\t+| {2,}"), "isolated"),
                pre_tokenizers.Metaspace(prepend_scheme="never"),
            ]
        )
        head, alphabet = [*special, *_BYTES], []
    else:
        tokenizer.pre_tokenizer = _loaded(family.pre_tokenizer)
        head, alphabet = [], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(head) - len(family.plain) - (0 if family.pieces else len(special)),
        initial_alphabet=alphabet,
        limit_alphabet=4000,
        max_token_length=32,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].__getitem__)
    vocabulary = {token: index for index, token in enumerate([*head, *learned])}
    if family.pieces:
        merges = _all_merges([token for token in learned if len(token) > 1], vocabulary)
    else:
        merges = model["merges"]
    return assembled(name, {"vocab": vocabulary, "merges": merges})


def assembled(name: str, model: Json) -> Json:
    """Return a tokenizer.json with a family's components around vocabulary and merges.

    Added tokens that the vocabulary lacks get the ids behind it.
    """
    family = FAMILIES[name]
    vocabulary = model["vocab"]
    behind = max(vocabulary.values()) + 1
    added = []
    for content in (*family.special, *family.plain):
        index = vocabulary.get(content, behind)
        behind += index == behind
        added.append(
            {
                "id": index,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": content in family.strips,
                "normalized": False,
                "special": content in family.special,
            }
        )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        "normalizer": family.normalizer,
        "pre_tokenizer": family.pre_tokenizer,
        "post_processor": _post_processor(family, added),
        "decoder": _decoder(family),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>" if family.pieces else None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": family.pieces,
            "byte_fallback": family.pieces,
            "ignore_merges": False,
            **family.options,
            "vocab": vocabulary,
            "merges": model["merges"],
        },
    }


def wrapped(name: str, content: Json, template: str | None) -> PreTrainedTokenizerFast:
    """Return a family's tokenizer as `transformers` has it."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), **FAMILIES[name].roles
    )
    tokenizer.chat_template = template
    return tokenizer


def _all_merges(tokens: list[str], vocabulary: dict[str, int]) -> list[list[str]]:
    """Return every way to make each token of two others, as conversions of SentencePiece have."""
    merges = []
    for token in tokens:
        parts = [(token[:at], token[at:]) for at in range(1, len(token))]
        known = [part for part in parts if part[0] in vocabulary and part[1] in vocabulary]
        merges += sorted(known, key=lambda part: (vocabulary[part[0]], vocabulary[part[1]]))
    return [list(part) for part in merges]


def _post_processor(family: Family, added: list[Json]) -> Json | None:
    plain = None if family.pieces else {**_BYTE_LEVEL, "use_regex": True}
    if family.first is None:
        return plain
    first = {"SpecialToken": {"id": family.first, "type_id": 0}}
    index = next(token["id"] for token in added if token["content"] == family.first)
    template = {
        "type": "TemplateProcessing",
        "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [first, *({"Sequence": {"id": name, "type_id": 0}} for name in "AB")],
        "special_tokens": {
            family.first: {"id": family.first, "ids": [index], "tokens": [family.first]}
        },
    }
    return {"type": "Sequence", "processors": [plain, template]} if plain else template


def _decoder(family: Family) -> Json:
    if not family.pieces:
        return {**_BYTE_LEVEL, "use_regex": True}
    steps: list[Json] = [
        {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if family.normalizer != _SPACES_MARKED:  # it puts a space before every text
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _loaded(pre_tokenizer: Json | None) -> pre_tokenizers.PreTokenizer:
    content = {"version": "1.0", "pre_tokenizer": pre_tokenizer, "added_tokens": []}
    model = {"type": "BPE", "vocab": {}, "merges": []}
    return Tokenizer.from_str(json.dumps({**content, "model": model})).pre_tokenizer
