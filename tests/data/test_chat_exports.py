"""WhatsApp and Telegram exports: who speaks when, and what becomes a conversation."""

import json
from pathlib import Path

import pytest

from toolkit.data.documents import read_documents
from toolkit.errors import ToolkitError

ANDROID = """12/31/20, 22:15 - Messages are end-to-end encrypted.
12/31/20, 22:15 - Ann: hello: you
12/31/20, 22:16 - Bob: <Media omitted>
and a second line
12/31/20, 22:17 - Bob: third <This message was edited>
12/31/20, 22:18 - Ann changed the subject
to what nobody said
12/31/20, 22:19 - Ann: IMG-20201231-WA0001.jpg (file attached)
1/1/21, 04:17 - Ann: bye
1/1/21, 04:20 - Bob: This message was deleted
1/1/21, 10:17 - Bob: morning
1/1/21, 10:18 - Ann: yes
1/1/21, 10:19 - Bob: no
"""


def read(path: Path, content: str, me: str | None, form: str = "auto"):
    path.write_text(content, encoding="utf-8", newline="")
    return list(read_documents([path], form, me=me))


def turns(document) -> list[tuple[str, str]]:
    return [(message["role"][0], message["content"]) for message in document.messages]


def test_a_chat_of_android(tmp_path):
    """Messages in a row are one; six hours make a conversation; what opens one of mine is left."""
    [first, second, third] = read(tmp_path / "chat.txt", ANDROID, "Bob")
    assert turns(first) == [("u", "hello: you"), ("a", "and a second line\nthird")]
    assert turns(second) == [("u", "bye")]
    assert turns(third) == [("u", "yes"), ("a", "no")]


def test_conversations_and_roles(tmp_path):
    lines = [
        "31.12.20, 22:00 - Bob: I begin",
        "31.12.20, 22:15 - Ann: hello",
        "31.12.20, 22:16 - Ann: there",
        "01.01.21, 04:15 - Bob: late",
        "01.01.21, 10:15 - Ann: new",
        "01.01.21, 10:16 - Bob: yes",
    ]
    documents = read(tmp_path / "a.txt", "\n".join(lines), "Bob")
    assert [turns(d) for d in documents] == [
        [("u", "hello\nthere"), ("a", "late")],
        [("u", "new"), ("a", "yes")],
    ]
    assert [d.source.rpartition(":")[2] for d in documents] == ["1", "5"]
    documents = read(tmp_path / "a.txt", "\n".join(lines), "Ann")
    assert turns(documents[0]) == [("u", "I begin"), ("a", "hello\nthere"), ("u", "late")]
    lines.insert(2, "31.12.20, 22:15 - Eve: me too")
    documents = read(tmp_path / "a.txt", "\n".join(lines), "Bob")
    assert turns(documents[0])[0] == ("u", "Ann: hello\nEve: me too\nAnn: there")


@pytest.mark.parametrize(
    ("evening", "after_midnight"),
    [
        ("12/31/20, 22:15 - ", "1/1/21, 00:05 - "),
        ("12/31/20, 10:15 PM - ", "1/1/21, 12:05 AM - "),
        ("12/31/20, 10:15\u202fPM - ", "1/1/21, 12:05\u202fAM - "),
        ("31/12/2020, 22:15 - ", "01/01/2021, 00:05 - "),
        ("31/12/20 10:15 p. m. - ", "1/1/21 12:05 a. m. - "),
        ("31/12/2020, 10:15 pm - ", "01/01/2021, 12:05 am - "),
        ("31.12.20, 22:15 - ", "01.01.21, 00:05 - "),
        ("2020-12-31 22:15 - ", "2021-01-01 00:05 - "),
        ("2020. 12. 31. 22:15 - ", "2021. 01. 01. 00:05 - "),
        ("2020/12/31 下午10:15 - ", "2021/1/1 上午12:05 - "),
        ("[31.12.20, 22:15:01] ", "[01.01.21, 00:05:02] "),
        ("[12/31/20, 10:15:01 PM] ", "[1/1/21, 12:05:02 AM] "),
        ("\u200e[31/12/2020, 22:15:01] ", "\u200e[01/01/2021, 00:05:02] "),
        ("[2020-12-31, 22.15.01] ", "[2021-01-01, 00.05.02] "),
    ],
)
def test_formats_of_dates(tmp_path, evening, after_midnight):
    """Under two hours are one conversation, so date, hour and half of the day must be right."""
    text = f"{evening}Ann: hello\r\n{after_midnight}Bob Smith: hi\r\nand more\r\n"
    [document] = read(tmp_path / "a.txt", text, "Bob Smith")
    assert turns(document) == [("u", "hello"), ("a", "hi\nand more")]
    later = (
        after_midnight.replace("00:05", "04:16").replace("12:05", "04:16").replace("00.05", "04.16")
    )
    text = f"{evening}Ann: hello\n{evening}Bob: hi\n{later}Ann: again\n{later}Bob: so\n"
    assert len(read(tmp_path / "a.txt", text, "Bob")) == 2


def test_the_order_of_day_and_month_is_found_from_the_times(tmp_path):
    for first, second in (("1/12/21", "2/1/21"), ("12/1/21", "1/2/21")):  # January, February
        lines = [f"{d}, 22:0{i} - {'AB'[i]}: x" for d in (first, second) for i in (0, 1)]
        assert len(read(tmp_path / "a.txt", "\n".join(lines), "B")) == 2
    with pytest.raises(ToolkitError, match="neither day-month-year"):
        read(tmp_path / "a.txt", "31/12/20, 10:00 - A: x\n12/31/20, 10:00 - B: y\n", "A")


def test_what_whatsapp_itself_writes_is_left_out(tmp_path):
    text = (
        "[31.12.20, 22:15:01] Ann: \u200eMessages and calls are end-to-end encrypted.\n"
        "[31.12.20, 22:15:02] Ann: hello\n"
        "\u200e[31.12.20, 22:15:03] Bob: \u200e<attached: 0001.jpg>\n"
        "[31.12.20, 22:15:04] Bob: a\n<b>\n\u200e<This message was edited>\n"
    )
    [document] = read(tmp_path / "a.txt", text, "Bob")
    assert turns(document) == [("u", "hello"), ("a", "a\n<b>")]


def telegram(name: str, *messages) -> dict:
    chat = {"name": name, "type": "personal_chat", "id": 1, "messages": []}
    for number, (speaker, date, text, more) in enumerate(messages):
        entry = {"id": number, "type": "message", "date": date, "from": speaker, "text": text}
        chat["messages"].append({**entry, **more})
    return chat


ANN = telegram(
    "Ann",
    ("Ann", "2020-12-31T22:15:00", "hello", {}),
    ("Ann", "2020-12-31T22:15:10", "", {"photo": "a.jpg"}),
    ("Bob", "2020-12-31T22:15:20", "forwarded", {"forwarded_from": "Eve"}),
    ("Ann", "2020-12-31T22:15:30", "called", {"type": "service"}),
    ("Bob", "2020-12-31T22:16:00", ["see ", {"type": "link", "text": "x.org"}, "!"], {}),
    (None, "2020-12-31T22:17:00", "gone", {}),
    ("Bob", "2020-12-31T22:18:00", "of one who is gone", {"forwarded_from": None}),
    ("Ann", "2021-01-01T09:00:00", "morning", {}),
    ("Bob", "2021-01-01T09:01:00", "yes", {}),
)


def test_telegram(tmp_path):
    expected = [[("u", "hello"), ("a", "see x.org!")], [("u", "morning"), ("a", "yes")]]
    documents = read(tmp_path / "result.json", json.dumps(ANN, indent=1), "Bob")
    assert [turns(document) for document in documents] == expected
    assert documents[1].source == f"{tmp_path / 'result.json'}[Ann, message 7]"
    other = telegram("Eve", ("Eve", "2020-12-31T22:15:00", "hi", {}))
    other["messages"].append({**ANN["messages"][-1], "date": "2020-12-31T22:16:00"})
    account = {"about": "Here is the data. Telegram", "chats": {"about": "x", "list": [ANN, other]}}
    documents = read(tmp_path / "all.json", json.dumps(account, indent=1), "Bob")
    assert [turns(document) for document in documents] == [*expected, [("u", "hi"), ("a", "yes")]]


def test_broken_exports_of_telegram(tmp_path):
    text = json.dumps(ANN, indent=1)
    with pytest.raises(ToolkitError, match=r"a\.json:\d+: not valid JSON"):
        read(tmp_path / "a.json", text[:-3], "Bob")
    with pytest.raises(ToolkitError, match=r"is not as Telegram exports it .*'text'"):
        read(tmp_path / "a.json", text.replace('"text": "hello"', '"txt": "hello"'), "Bob")
    with pytest.raises(ToolkitError, match=r"\[Ann, message 0\]: 'today' is no date"):
        read(tmp_path / "a.json", text.replace("2020-12-31T22:15:00", "today", 1), "Bob")


@pytest.mark.parametrize("me", [None, "bob"])
def test_without_me_the_speakers_are_named(tmp_path, me):
    cause = r"Messages are of Ann \(2\), Bob \(2\)"
    with pytest.raises(ToolkitError, match=cause) as error:
        read(tmp_path / "result.json", json.dumps(ANN), me)
    assert "--me NAME" in error.value.remedy
    text = "[31.12.20, 22:15:01] Ann: hello\n[31.12.20, 22:16:30] Bob: hi\n" * 2
    with pytest.raises(ToolkitError, match=cause):
        read(tmp_path / "a.txt", text, me)
    [document] = read(tmp_path / "a.txt", text, None, "text")
    assert document.text == text
