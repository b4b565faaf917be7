"""Strings that tokenizers differ on, with their tokens by the `tokenizers` library.

cases.bin, big-endian: number of cases, then per case length and bytes of the text (UTF-8, sometimes
broken). For each tokenizer a folder with tokenizer.json; tokens.bin, per case the number of tokens
and the tokens; plain.bin, the same of the first cases without those added around a text; and
texts.bin, what the tokens of the first cases are decoded to, then every token by itself.
"""

import itertools
import json
import random
import struct
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tests.support.family_tokenizers import FAMILIES, trained
from toolkit.data.tokenizers import load_tokenizer

ROOT = Path(__file__).parents[2]
GGUF = ROOT / ".cache/assets/SmolLM2-135M-Instruct.Q4_1.gguf"
PLAIN = 2000
DECODED = 500
_SMALL = 1500
_BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")

_TEXT = """
the and Hello WORLD it's I'VE they'Re we'lL don'T x'\u017f 'dare can't
l'été naïve Straße ﬁn İstanbul
function() {return x+=1;} https://example.org/a?b=c&d e-mail@host 3.14159 1,000,000 2³ ½ Ⅷ ٣٤
東京都 こんにちは 안녕하세요 สวัสดี नमस्ते שלום مرحبا Привет γειά ไทย ကမ္ဘာ
👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 ❤️ e\u0301 \u1112\u1161\u11ab \u0958 \u212b \ufb01 \u2126
_ __init__ #tag @you $5 €9 % ... <|im_start|> <|im_end|> <|endoftext|> <|im_ <s>
<bos> <start_of_turn>user <end_of_turn> <unused7> <table> <h1> [multimodal]
<0x0A> <0xE2> <unk> \u2581 a\u2581b
<|user|> <|end|> <|assistant|>x <|begin_of_text|> <|eot_id|> <|start_of_role|>
<think> </think> </s> <pad> camelCase HTTPServer XMLHttpRequest iPhone15 ǅungla ÀÉÎ straßenBAHN
SHE'LL
o'CLOCK
a/b//c\n/ ...\r\n
"""
_SPACES = [
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " \n",
    "\n ",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\v",
    "\x85",
    "",
    "",
    "      ",
    "\n\n\n",
    "\t\t\t",
    "\r",
    "\u2581",
]


def write(folder: Path, count: int, tokenizers: Mapping[str, dict[str, Any]]) -> None:
    """Write cases, and for every tokenizer.json what they become."""
    folder.mkdir(parents=True)
    cases = make_cases(count, random.Random(7))
    texts = [case.decode("utf-8", "replace").removeprefix("\ufeff") for case in cases]
    with (folder / "cases.bin").open("wb") as file:
        file.write(struct.pack(">i", len(cases)))
        for case in cases:
            file.write(struct.pack(">i", len(case)) + case)
    for name, content in tokenizers.items():
        (folder / name).mkdir()
        (folder / name / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))
        tokenizer = Tokenizer.from_str(json.dumps(content))
        write_tokens(folder / name / "tokens.bin", tokenizer.encode_batch(texts))
        plain = tokenizer.encode_batch(texts[:PLAIN], add_special_tokens=False)
        write_tokens(folder / name / "plain.bin", plain)
        sizes = range(tokenizer.get_vocab_size())
        decoded = [*(e.ids for e in tokenizer.encode_batch(texts[:DECODED])), *([i] for i in sizes)]
        write_texts(folder / name / "texts.bin", tokenizer.decode_batch(decoded))


def write_tokens(path: Path, encodings: list[Any]) -> None:
    """Write number and tokens of each text."""
    with path.open("wb") as file:
        for encoding in encodings:
            ids = encoding.ids
            file.write(struct.pack(f">{len(ids) + 1}i", len(ids), *ids))


def write_texts(path: Path, texts: list[str]) -> None:
    """Write length and bytes of each text."""
    with path.open("wb") as file:
        for text in texts:
            content = text.encode()
            file.write(struct.pack(">i", len(content)) + content)


def small() -> dict[str, dict[str, Any]]:
    """SmolLM2's own, one of every family trained on this project's text, and other components."""
    lines = list(corpus([ROOT / "README.md", *sorted((ROOT / "toolkit/data").glob("*.py"))]))
    found = {name: trained(name, _SMALL, lines) for name in FAMILIES}
    variants = others(found)
    check_apart({name: variants[name] for name in variants if name.startswith("split")})
    check_apart({"whole": variants["whole"], "joined": joined(variants["whole"])})
    return {**found, "smollm2": smollm2(), **variants}


def smollm2() -> dict[str, Any]:
    """The real tokenizer of SmolLM2."""
    if not GGUF.is_file():
        sys.exit(f"error: {GGUF} is missing. Run tools/setup")
    content: dict[str, Any] = json.loads(load_tokenizer(str(GGUF)).backend_tokenizer.to_str())
    return content


def others(families: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same vocabularies behind components that the families' files had at other times."""
    llama, phi, gemma = families["llama3.2"], families["phi3"], families["gemma3"]
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"}
    flags = {"<|user|>": {"lstrip": True}, "<|system|>": {"normalized": True}}
    tokens = [{**token, **flags.get(token["content"], {})} for token in phi["added_tokens"]]
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    return {
        "gpt2": {**llama, "pre_tokenizer": {**byte_level, "use_regex": True}},
        "metaspace": {
            **phi,
            "normalizer": None,
            "pre_tokenizer": {**metaspace, "split": True},
            "added_tokens": tokens,
        },
        "marked": {**phi, "added_tokens": tokens},
        "whole": {**llama, "model": without_merges(llama["model"])},
        **{f"split{behavior}": split_by(phi, behavior) for behavior in _BEHAVIORS},
        "unknown": {**gemma, "model": without_bytes(gemma["model"], fused=True)},
        "unknowns": {**gemma, "model": without_bytes(gemma["model"], fused=False)},
    }


def without_bytes(model: dict[str, Any], *, fused: bool) -> dict[str, Any]:
    """Return a model that lacks the last byte of the fallback, so that some text is unknown."""
    vocabulary = {("<lost>" if t == "<0xA9>" else t): i for t, i in model["vocab"].items()}
    return {**model, "vocab": vocabulary, "fuse_unk": fused}


def without_merges(model: dict[str, Any]) -> dict[str, Any]:
    """Return a model in which no merges lead to some tokens: only pieces taken whole are these."""
    return {**model, "merges": model["merges"][: -len(model["merges"]) // 3]}


def joined(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer that takes no piece whole."""
    return {**tokenizer, "model": {**tokenizer["model"], "ignore_merges": False}}


def split_by(tokenizer: dict[str, Any], behavior: str) -> dict[str, Any]:
    """Return a tokenizer that splits at dots, which tokens have on either side and in pairs."""
    step = {"type": "Split", "pattern": {"String": "."}, "behavior": behavior, "invert": False}
    return {**tokenizer, "pre_tokenizer": step}


def check_apart(tokenizers: Mapping[str, dict[str, Any]]) -> None:
    """Fail where no case tells two of these apart, so that one could stand for the other."""
    texts = [case.decode("utf-8", "replace") for case in make_cases(PLAIN, random.Random(7))]
    texts = [text for text in texts if len(text) < 200]
    tokens = {
        name: [one.ids for one in Tokenizer.from_str(json.dumps(content)).encode_batch(texts)]
        for name, content in tokenizers.items()
    }
    for one, other in itertools.combinations(tokens, 2):
        if tokens[one] == tokens[other]:
            sys.exit(f"error: no case tells the tokenizers {one} and {other} apart")


def corpus(files: list[Path]) -> Iterator[str]:
    """Lines to train on: of files, and of what the cases are made of."""
    for file in files:
        yield from file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    yield from _TEXT.splitlines(keepends=True)


def make_cases(count: int, source: random.Random) -> list[bytes]:
    """Texts of many kinds; every third has characters from all over Unicode, some are broken."""
    assigned = [
        c
        for c in range(0x110000)
        if not 0xD800 <= c <= 0xDFFF and unicodedata.category(chr(c)) not in ("Cn", "Co")
    ]
    cases = [
        b"",
        b" ",
        b"\n",
        "\ufeffx".encode(),
        b"\xff",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98",
        b"a" * 5000,
    ]
    cases += [("é " * 700).encode(), b" " * 300, b"\r\n" * 200, b"1234567890" * 40]
    cases += ["東".encode() * 3000, "\u2581".encode() * 90, b"\n" * 500, "e\u0301".encode() * 900]
    cases += [b"ab" * 50_000, ("the " * 20_000).encode(), b"<|user|> \n " * 40, b"<bos>" * 30]
    words = _TEXT.split()
    while len(cases) < count:
        kind = len(cases) % 6
        if kind in (0, 1, 2):
            parts = [
                source.choice(words) + source.choice(_SPACES) for _ in range(source.randint(1, 12))
            ]
            text = "".join(parts)
        elif kind == 3:
            text = "".join(chr(source.choice(assigned)) for _ in range(source.randint(1, 16)))
        elif kind == 4:
            text = "".join(
                source.choice("aZ'sS\u017ftTreVEml d1²٣\n\r\t  \u00a0,.!é東🙂\u0301")
                for _ in range(24)
            )
        else:
            text = "".join(chr(source.randint(1, 0x2FF)) for _ in range(source.randint(1, 20)))
        data = text.encode()
        if len(cases) % 11 == 0:
            data = broken(data, source)
        cases.append(data)
    return cases


def broken(data: bytes, source: random.Random) -> bytes:
    """Cut, drop or replace bytes."""
    damaged = bytearray(data)
    for _ in range(source.randint(1, 3)):
        at = source.randrange(len(damaged) + 1)
        damaged[at : at + source.randint(0, 2)] = bytes(
            source.choice(b"\x80\xbf\xc0\xc3\xe2\xed\xf0\xf4\xf8\xff")
            for _ in range(source.randint(0, 2))
        )
    return bytes(damaged)
