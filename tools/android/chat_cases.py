"""Chats, tables and records in files as people have them, and the rows that `toolkit data` makes.

files/ has the files. For each family a folder has its tokenizer with a chat template of the
family's form, and rows.json: the four tensors, of `length` tokens a row.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.family_templates import TEMPLATES
from tests.support.family_tokenizers import FAMILIES, wrapped
from toolkit.data.dataset import read_rows
from toolkit.data.prepare import Settings, prepare

LENGTH = 96
ME = "Anna Müller"
NAMES = ("tokens", "labels", "positions", "start")

_ANDROID = f"""\
31.12.23, 22:14 - Nachrichten und Anrufe sind Ende-zu-Ende-verschlüsselt.
31.12.23, 22:15 - {ME}: Das schreibe ich zuerst
31.12.23, 22:15 - Ben: Hallo! Wie geht's?
31.12.23, 22:16 - {ME}: Gut, und dir?
Heute war's schön: Schnee 🙂

31.12.23, 22:17 - Ben: <Medien ausgeschlossen>
31.12.23, 22:17 - Ben: Diese Nachricht wurde gelöscht.
31.12.23, 22:18 - Ben: IMG-20231231-WA0007.jpg (Datei angehängt)
31.12.23, 22:19 - Ben: Ein frohes neues Jahr
31.12.23, 22:20 - {ME}: Danke, dir auch! <Diese Nachricht wurde bearbeitet>
1.1.24, 09:00 - Ben hat den Betreff zu „a: b“ geändert
1.1.24, 09:01 - Ben: Guten Morgen
1.1.24, 09:02 - {ME}: Morgen
"""
_US = f"""\
12/31/23, 10:14\u202fPM - Messages and calls are end-to-end encrypted.
12/31/23, 10:15\u202fPM - Ben: Hello, how are you?
12/31/23, 10:16\u202fPM - {ME}: Fine: and you?
12/31/23, 10:17\u202fPM - Cleo: <Media omitted>
12/31/23, 10:18\u202fPM - Cleo: me too
12/31/23, 10:19\u202fPM - {ME}: null
12/31/23, 10:20\u202fPM - {ME}: So all of us are
1/1/24, 12:05\u202fAM - Ben: Happy new year
1/1/24, 12:06\u202fAM - {ME}: You too
"""
_IOS = f"""\
\u200e[31.12.23, 22:14:01] Ben: \u200eMessages and calls are end-to-end encrypted.
[31.12.23, 22:15:09] Ben: Kommst du morgen?
\u200e[31.12.23, 22:15:30] Ben: \u200eBild weggelassen
[31.12.23, 22:16:00] ~\u202f{ME}: Ja
bis dann
"""
_ISO = f"""\
[2023/12/31 下午10:15:01] Ben: one
[2023/12/31 下午10:16:01] {ME}: two
[2024/01/01 上午09:16:01] Ben: three
[2024/01/01 上午09:17:01] {ME}: four
"""
_SAID: list[tuple[str, str, Any]] = [
    ("2024-01-01T10:00:01", "Ben", "hi\ud83d\ude42 half \ud83d"),
    ("2024-01-01T10:00:02", "Ben", ["see ", {"type": "link", "text": "x.org"}]),
    ("2024-01-01T10:00:05", ME, "  thank you  "),
    ("2024-01-01T10:01:05", ME, ""),
    ("2024-01-02T10:01:05", ME, "first of a conversation"),
    ("2024-01-02T10:02:05", "Ben", "late"),
    ("2024-01-02T10:03:05", ME, "never"),
]
_MESSAGES: list[dict[str, Any]] = [
    {"id": 1, "type": "service", "date": "2024-01-01T10:00:00", "action": "phone_call"},
    *(
        {"type": "message", "date": date, "from": who, "from_id": f"user{len(who)}", "text": text}
        for date, who, text in [*_SAID, ("2024-01-02T10:03:06", "Ben", "forwarded")]
    ),
]
_MESSAGES[-1]["forwarded_from"] = "X"
_TELEGRAM = {
    "name": "Ben",
    "type": "personal_chat",
    "id": 42,
    "messages": [{"id": 5, **message} for message in _MESSAGES],
}
_LONG = [
    {"role": role, "content": f"{role} says {word} again and again, {number}. " * 3}
    for number, word in enumerate(["hello", "東京", "straße", "é e\u0301 Å", "x"])
    for role in ("user", "assistant")
]
_RECORDS: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "Be brief."}, *_LONG[:2]]},
    {"messages": _LONG},
    {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "  I \n"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "e\u0301\n\n"}]},
                  {"role": "assistant", "content": "\u0301 begins with a mark"},
                  {"role": "user", "content": "unanswered"}]},
    {"prompt": "2 + 2 =", "completion": " 4"},
    {"instruction": "Translate", "input": "Haus", "output": "house"},
    {"question": "What?", "context": "A thing.", "answer": "That"},
    {"text": "a text by itself 🙂"},
    {"instruction": "Go on", "response": "on", "history": [["a", "b"]], "system": "Be kind."},
]  # fmt: skip
_LINES = "".join(
    json.dumps(record, ensure_ascii=index % 2 == 0) + "\n" for index, record in enumerate(_RECORDS)
)
_TABLE = 'id;question;answer\n1;"a ""quoted""; one";"two\nlines"\n2;b;c\n\n'
FILES = {
    "android.txt": _ANDROID,
    "us.txt": _US,
    "ios.txt": _IOS,
    "iso.txt": _ISO.replace("\n", "\r\n"),
    "result.json": json.dumps(_TELEGRAM),
    "records.jsonl": _LINES,
    "list.json": json.dumps(_RECORDS[4:6], indent=1),
    "table.csv": _TABLE,
    "columns.tsv": "text\tother\nonly this\tnot this\n",
    "plain.txt": "\ufeffJust a text, with: a colon\n",
}  # fmt: skip


def write(folder: Path, tokenizers: Mapping[str, dict[str, Any]]) -> None:
    """Write the files, and for every family what they become."""
    (folder / "files").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / "files" / name).write_bytes(text.encode())
    for name in FAMILIES:
        tokenizer = wrapped(name, tokenizers[name], TEMPLATES[name])
        tokenizer.save_pretrained(folder / name)
        settings = Settings(LENGTH, validation=0, me=ME)
        prepare(
            [folder / "files" / file for file in FILES], tokenizer, settings, folder / name / "data"
        )
        rows = read_rows(folder / name / "data/train.ptd")
        content = {"files": list(FILES), "length": LENGTH, "me": ME}
        content |= {part: getattr(rows, part).tolist() for part in NAMES}
        (folder / name / "rows.json").write_text(json.dumps(content))
