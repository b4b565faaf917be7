"""WhatsApp and Telegram exports: who speaks when, and what becomes a conversation."""

# ruff: noqa: RUF001 (letters of other alphabets are meant)

import json
import time
import unicodedata
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


@pytest.mark.parametrize(
    "quoted",
    ['"a: b"', "“a: b”", "„a: b“", "«a: b»", "‚a: b‘", "‘a: b’", "‹a: b›", "「a: b」", "”a: b”"],
)
def test_nobody_speaks_in_a_line_with_quotes(tmp_path, quoted):
    text = (
        "31.12.20, 22:15 - Ann O’Neil: hello\n"
        f"31.12.20, 22:16 - Ann O’Neil hat den Betreff von „x“ zu {quoted} geändert\n"
        f"31.12.20, 22:16 - Ann O’Neil changed the subject to {quoted}\n"
        "31.12.20, 22:17 - Bob: see “a: b” and 'c'\n"
    )
    with pytest.raises(ToolkitError, match=r"Messages are of Ann O’Neil \(1\), Bob \(1\)"):
        read(tmp_path / "a.txt", text, None)
    [document] = read(tmp_path / "a.txt", text, "Bob")
    assert turns(document) == [("u", "hello"), ("a", "see “a: b” and 'c'")]


@pytest.mark.parametrize("name", ["Ka‘iulani", "Tom «T» Lee", 'Bo "the boss" Li', "„Jo“ K."])
def test_names_may_have_quotes(tmp_path, name):
    text = f"31.12.20, 22:15 - {name}: hello\n31.12.20, 22:17 - Bob: hi\n"
    [document] = read(tmp_path / "a.txt", text, "Bob")
    assert turns(document) == [("u", "hello"), ("a", "hi")]


OWN = {
    "en": ["<Media omitted>", "You deleted this message", "null", "report.pdf (file attached)",
           "Missed video call", "image omitted", "Location: https://maps.google.com/?q=1.5,2.5"],
    "de": ["<Medien ausgeschlossen>", "Diese Nachricht wurde gelöscht",
           "Du hast diese Nachricht gelöscht", "Plan.pdf (Datei angehängt)", "Bild weggelassen",
           "Verpasster Sprachanruf", "Standort: https://maps.google.com/?q=1.5,2.5"],
    "es": ["<Multimedia omitido>", "Se eliminó este mensaje.", "Eliminaste este mensaje.",
           "plan.pdf (archivo adjunto)", "imagen omitida", "Llamada perdida"],
    "fr": ["<Médias omis>", "Ce message a été supprimé", "Vous avez supprimé ce message",
           "plan.pdf (fichier joint)", "image absente", "Appel vocal manqué"],
    "pt": ["<Mídia oculta>", "Mensagem apagada", "Você apagou esta mensagem",
           "plano.pdf (arquivo anexado)", "imagem ocultada", "Chamada de voz perdida"],
    "it": ["<Media omessi>", "Questo messaggio è stato eliminato",
           "Hai eliminato questo messaggio", "piano.pdf (file allegato)", "immagine omessa",
           "Chiamata vocale persa"],
    "nl": ["<Media weggelaten>", "Dit bericht is verwijderd", "U hebt dit bericht verwijderd",
           "plan.pdf (bestand bijgevoegd)", "afbeelding weggelaten", "Gemiste spraakoproep"],
    "tr": ["<Medya dahil edilmedi>", "Bu mesaj silindi", "Bu mesajı sildiniz",
           "plan.pdf (dosya ekli)", "görüntü dahil edilmedi", "Cevapsız sesli arama"],
    "ru": ["<Без медиафайлов>", "Данное сообщение удалено", "Вы удалили данное сообщение",
           "план.pdf (файл добавлен)", "Пропущенный аудиозвонок"],
    "hi": ["<मीडिया के बिना>", "यह मैसेज डिलीट कर दिया गया है।"],
}  # fmt: skip


@pytest.mark.parametrize("language", OWN)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_what_whatsapp_writes_in_other_languages_is_left_out(tmp_path, language, form):
    lines = ["31.12.20, 22:15 - Ann: hello"]
    lines += [f"31.12.20, 22:16 - Bob: {own}" for own in OWN[language]]
    lines += [f"31.12.20, 22:16 - Bob: {own}\ncaption" for own in OWN[language]]
    lines += ["31.12.20, 22:17 - Bob: yes"]
    text = unicodedata.normalize(form, "\n".join(lines))
    [document] = read(tmp_path / "a.txt", text, "Bob")
    said = "\n".join(["caption"] * len(OWN[language]) + ["yes"])
    assert turns(document) == [("u", "hello"), ("a", said)]


@pytest.mark.parametrize(
    "edited",
    ["This message was edited", "Diese Nachricht wurde bearbeitet.", "Se editó este mensaje.",
     "Ce message a été modifié", "Mensagem editada", "Questo messaggio è stato modificato",
     "Dit bericht is bewerkt", "Данное сообщение изменено"],
)  # fmt: skip
def test_that_a_message_was_edited_is_left_out(tmp_path, edited):
    text = f"31.12.20, 22:15 - Ann: hello\n31.12.20, 22:16 - Bob: so <{edited}>\n"
    [document] = read(tmp_path / "a.txt", text, "Bob")
    assert turns(document) == [("u", "hello"), ("a", "so")]


@pytest.mark.parametrize(
    "said", [" " * 1_000_000 + "<a>", "\u200e<" * 300_000, "so" + " " * 1_000_000]
)
def test_a_long_line_takes_no_longer_than_its_length_asks_for(tmp_path, said):
    heads = "31.12.20, 22:14 - Ann: hi\n31.12.20, 22:15 - Bob: yes\n31.12.20, 22:16 - Ann: x"
    begun = time.monotonic()
    [document] = read(tmp_path / "a.txt", f"{heads}{said}.\n31.12.20, 22:17 - Bob: so\n", "Bob")
    assert time.monotonic() - begun < 2
    assert turns(document)[2:] == [("u", f"x{said}."), ("a", "so")]


def test_what_people_write_of_such_things_is_kept(tmp_path):
    said = [
        "null and void",
        "This message was deleted? I do not see it",
        "I sent plan.pdf (the old one)",
        "https://maps.google.com/?q=1,2",
        "the image omitted that",
        "e\u0301 stays as it was written",
    ]
    lines = ["31.12.20, 22:15 - Ann: hello", *(f"31.12.20, 22:16 - Bob: {text}" for text in said)]
    [document] = read(tmp_path / "a.txt", "\n".join(lines), "Bob")
    assert turns(document) == [("u", "hello"), ("a", "\n".join(said))]


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


NAMESAKES = telegram(
    "Group",
    ("Ann", "2020-12-31T22:15:00", "one", {"from_id": "user1"}),
    ("Ann", "2020-12-31T22:15:10", "two", {"from_id": "user2"}),
    ("Bob", "2020-12-31T22:15:20", "three", {"from_id": "user3"}),
    ("Ann", "2020-12-31T22:15:30", "four", {"from_id": "user2"}),
)


def test_telegram_tells_namesakes_apart(tmp_path):
    path, text = tmp_path / "result.json", json.dumps(NAMESAKES)
    [document] = read(path, text, "user2")
    expected = [("u", "Ann: one"), ("a", "two"), ("u", "Bob: three"), ("a", "four")]
    assert turns(document) == expected
    [document] = read(path, text, "Bob")
    assert turns(document) == [("u", "Ann: one\nAnn: two"), ("a", "three"), ("u", "Ann: four")]
    people = r"Messages are of Ann \[user2\] \(2\), Ann \[user1\] \(1\)"
    cause = rf"who of them is 'Ann'\? {people}"
    with pytest.raises(ToolkitError, match=cause) as error:
        read(path, text, "Ann")
    assert "by what stands in brackets" in error.value.remedy
    with pytest.raises(
        ToolkitError, match=r"of Ann \[user2\] \(2\), Ann \[user1\] \(1\), Bob \(1\)"
    ):
        read(path, text, None)


def test_telegram_knows_who_changed_the_name(tmp_path):
    chat = telegram(
        "Ann",
        ("Ann", "2020-12-31T22:15:00", "hello", {"from_id": "user1"}),
        ("Bob", "2020-12-31T22:15:10", "hi", {"from_id": "user2"}),
        ("Bobby", "2020-12-31T22:15:20", "again", {"from_id": "user2"}),
    )
    [document] = read(tmp_path / "result.json", json.dumps(chat), "Bob")
    assert turns(document) == [("u", "hello"), ("a", "hi\nagain")]


def test_halves_of_characters_are_replaced_and_counted(tmp_path):
    chat = telegram(
        "An\ud83d",
        ("An\ud83d", "2020-12-31T22:15:00", "hello\ud83d", {}),
        ("Eve", "2020-12-31T22:15:00", "\ude00", {}),
        ("Bo\ud83d", "2020-12-31T22:16:00", ["so ", {"type": "bold", "text": "\ud83d"}], {}),
    )
    path, text = tmp_path / "result.json", json.dumps(chat)
    [document] = read(path, text, "Bo\ufffd")
    expected = [("u", "An\ufffd: hello\ufffd\nEve: \ufffd"), ("a", "so \ufffd")]
    assert turns(document) == expected and document.repaired == 4
    assert str(document.source).isprintable()
    with pytest.raises(ToolkitError) as error:
        read(path, text, None)
    assert "Bo\ufffd (1)" in str(error.value).encode().decode()


@pytest.mark.parametrize(
    ("later", "count"),
    [
        ("2021-01-01T04:14:00+01:00", 1),
        ("2021-01-01T04:16:00+01:00", 2),
        ("2021-01-01T05:14:00+02:00", 1),
        ("2021-01-01T05:16:00+02:00", 2),
        ("2021-01-01T03:14:00Z", 1),
        ("2021-01-01T04:14:00", 1),
        ("2021-01-01T04:16:00", 2),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_dates_with_and_without_a_time_zone(tmp_path, later, count, turned):
    """Six hours are exact between two zones, and by the clock on the wall where one is missing."""
    dates = ["2020-12-31T22:15:00+01:00", later]
    if turned and later[-1].isdigit() and "+" not in later:
        dates = [dates[0].removesuffix("+01:00"), f"{later}+01:00"]
    chat = telegram(
        "Ann",
        ("Ann", dates[0], "a", {}),
        ("Bob", dates[0], "b", {}),
        ("Ann", dates[1], "c", {}),
        ("Bob", dates[1], "d", {}),
    )
    assert len(read(tmp_path / "result.json", json.dumps(chat), "Bob")) == count


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
