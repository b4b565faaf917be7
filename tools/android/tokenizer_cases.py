"""Strings that tokenizers differ on, with their tokens by the `tokenizers` library.

For each tokenizer a folder with tokenizer.json, and cases.bin, big-endian: number of cases, then
per case length and bytes of the text (UTF-8, sometimes broken), then per tokenizer, in the order
of names.txt, number of tokens and tokens.
"""

import json
import random
import struct
import sys
import unicodedata
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

ROOT = Path(__file__).parents[2]
GGUF = ROOT / ".cache/assets/SmolLM2-135M-Instruct.Q4_1.gguf"
CASES = 100_000

_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBERS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEXT = """
the and Hello WORLD it's I'VE they'Re we'lL don'T x'\u017f 'dare can't
l'été naïve Straße ﬁn İstanbul
function() {return x+=1;} https://example.org/a?b=c&d e-mail@host 3.14159 1,000,000 2³ ½ Ⅷ ٣٤
東京都 こんにちは 안녕하세요 สวัสดี नमस्ते שלום مرحبا Привет γειά ไทย ကမ္ဘာ
👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 ❤️ e\u0301 \u1112\u1161\u11ab \u0958 \u212b \ufb01 \u2126
_ __init__ #tag @you $5 €9 % ... <|im_start|> <|im_end|> <|endoftext|> <|im_ <s>
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
]


def write(folder: Path) -> None:
    """Write tokenizers and cases."""
    tokenizers = variants(base_tokenizer())
    for name, tokenizer in tokenizers.items():
        (folder / name).mkdir(parents=True)
        tokenizer.save(str(folder / name / "tokenizer.json"))
    (folder / "names.txt").write_text("\n".join(tokenizers) + "\n")
    cases = make_cases(CASES, random.Random(7))
    texts = [case.decode("utf-8", "replace").removeprefix("\ufeff") for case in cases]
    columns = [
        [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        for tokenizer in tokenizers.values()
    ]
    with (folder / "cases.bin").open("wb") as file:
        file.write(struct.pack(">i", len(cases)))
        for case, *tokens in zip(cases, *columns, strict=True):
            file.write(struct.pack(">i", len(case)) + case)
            for ids in tokens:
                file.write(struct.pack(f">{len(ids) + 1}i", len(ids), *ids))


def base_tokenizer() -> dict[str, Any]:
    """SmolLM2's vocabulary and merges as a tokenizer.json."""
    from toolkit.data.tokenizers import load_tokenizer

    if not GGUF.is_file():
        sys.exit(f"error: {GGUF} is missing. Run tools/setup")
    return json.loads(load_tokenizer(str(GGUF)).backend_tokenizer.to_str())


def variants(base: dict[str, Any]) -> dict[str, Tokenizer]:
    """The same vocabulary behind the pre-tokenizers of the families that the app supports."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    plain = {**byte_level, "use_regex": False}
    gpt2 = {**byte_level, "use_regex": True}

    def split(numbers: str) -> dict[str, Any]:
        regex = _CL100K.replace("NUMBERS", numbers)
        return {
            "type": "Split",
            "pattern": {"Regex": regex},
            "behavior": "Isolated",
            "invert": False,
        }

    def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
        return {"type": "Sequence", "pretokenizers": list(steps)}

    def made(pre_tokenizer: dict[str, Any], **changes: Any) -> Tokenizer:
        content = {**base, "pre_tokenizer": pre_tokenizer, **changes}
        return Tokenizer.from_str(json.dumps(content))

    digits = {"type": "Digits", "individual_digits": True}
    return {
        "gpt2": made(gpt2),
        "smollm2": made(sequence(digits, gpt2)),
        "qwen2": made(sequence(split(r"\p{N}"), plain), normalizer={"type": "NFC"}),
        "llama3": made(
            sequence(split(r"\p{N}{1,3}"), plain), model={**base["model"], "ignore_merges": True}
        ),
    }


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
