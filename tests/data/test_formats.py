"""What a file is, is found out from its content; what is no text is refused with a way out."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest

from toolkit.data.documents import FORMS, read_documents
from toolkit.data.formats import FORMATS
from toolkit.errors import ToolkitError

IRC = "[22:15] <ann> hello\n[22:16] <bob> hi\n[22:17] * ann leaves:\n"
SUBTITLES = "1\n00:00:01,000 --> 00:00:02,500\nHello.\n\n2\n00:00:03,000 --> 00:00:04,000\nYes.\n"
HTML = "<!DOCTYPE html>\n<html><body><p>text</p></body></html>\n"
CHATGPT = [{"title": "a", "mapping": {}, "create_time": 1.0}]


def read(path: Path, content: str | bytes, form: str = "auto"):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_documents([path], form))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (IRC, "a chat's log"),
        (SUBTITLES, "subtitles"),
        ("WEBVTT\n\n00:01.000 --> 00:04.000\nHello.\n", "subtitles"),
        (HTML, "HTML"),
        ("\n  <HTML>\n<head></head></HTML>", "HTML"),
        ('<?xml version="1.0"?>\n<a>text</a>\n', "XML"),
        ("{\\rtf1\\ansi text}", "RTF"),
    ],
)
def test_structured_text_is_refused_by_its_content(tmp_path, content, what):
    """Whatever the file is called; --format text learns it as it is."""
    path = tmp_path / "notes.txt"
    with pytest.raises(ToolkitError) as error:
        read(path, content)
    message = str(error.value)
    assert message.startswith(f"{path} looks like {what}") and "--format text" in message
    assert error.value.remedy.partition(",")[0], "how to convert it"
    [document] = read(path, content, "text")
    assert document.text == content


@pytest.mark.parametrize("suffix", [".srt", ".html", ".xml", ".rtf"])
def test_structured_text_is_refused_by_its_suffix(tmp_path, suffix):
    with pytest.raises(ToolkitError, match=r"looks like .*--format text"):
        read(tmp_path / f"a{suffix}", "one line\n")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "text")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}', mtime=0), "a gzip file"),
        ("a.jsonl", gzip.compress(b'{"text": "a"}', mtime=0), "a gzip file"),
        ("a.zip", zipped(), "a ZIP archive or an office document"),
        ("a.docx", zipped(), "a ZIP archive or an office document"),
        ("a.pdf", b"%PDF-1.7\n\xe2\xe3", "a PDF document"),
        ("a.txt", "text".encode("utf-16"), "UTF-16 text"),
        ("a.gguf", b"GGUF\x03\x00", "a GGUF model"),
    ],
)
def test_other_files_are_named(tmp_path, name, content, what):
    with pytest.raises(ToolkitError, match=f"looks like {what}") as error:
        read(tmp_path / name, content)
    assert "--format" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "one line",
        "It was late, and he said: no.\nShe left, then, at 10:15 - or so.\n",
        "Dear Ann, dear Bob,\nthank you, really, for all.\nYours, Eve,\n",
        "Smith, John\nMiller, Ann\n",
        "\tindented\n\tindented\n\tindented\n\tindented\n\tindented\n",
        "def f(a, b):\n\treturn a, b\n\nprint(f(1, 2), 3)\n",
        "{placeholder} in a text\n",
        "[1] A footnote\n[2] Another\n",
        "# Title\n\n- a\n- b\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "3:16 For God so loved the world\n3:17 For God sent not his Son\n",
        "Chapter 1\n\n<br> is a tag\n",
    ],
)
def test_prose_and_code_stay_text(tmp_path, content):
    [document] = read(tmp_path / "a.txt", content)
    assert document.text == content


def test_records_are_recognized_without_a_suffix(tmp_path):
    assert [d.text for d in read(tmp_path / "a", '{"text": "a"}\n{"text": "b"}\n')] == ["a", "b"]
    assert [d.text for d in read(tmp_path / "b.txt", '[\n{"text": "a"}\n]\n')] == ["a"]
    assert [d.text for d in read(tmp_path / "c.txt", '{"text": "a"}', "text")] == ['{"text": "a"}']
    with pytest.raises(ToolkitError, match=r"d\.txt:1: not valid JSON"):
        read(tmp_path / "d.txt", "hello", "json")


def test_json_files_that_are_a_list_or_one_record(tmp_path):
    records = [{"text": "a"}, {"prompt": "p", "completion": "c"}]
    documents = read(tmp_path / "a.json", json.dumps(records, indent=2))
    assert [d.source[-3:] for d in documents] == ["[0]", "[1]"]
    assert (documents[0].text, documents[1].prompt) == ("a", "p")
    assert [d.text for d in read(tmp_path / "b.json", json.dumps(records[:1]))] == ["a"]
    assert [d.text for d in read(tmp_path / "c.json", json.dumps(records[0], indent=1))] == ["a"]
    with pytest.raises(ToolkitError, match=r"d\.json\[1\]: found 'txt'"):
        read(tmp_path / "d.json", json.dumps([{"text": "a"}, {"txt": "b"}]))
    with pytest.raises(ToolkitError, match=r"e\.json:3: not valid JSON: .*\(column 1\)"):
        read(tmp_path / "e.json", '[\n{"text": "a"},\n]')
    with pytest.raises(ToolkitError, match=r"f\.json: found 'data'.*'data' is a list"):
        read(tmp_path / "f.json", json.dumps({"data": records}, indent=1))


def test_exports_in_json_are_named(tmp_path):
    with pytest.raises(ToolkitError, match="this looks like a ChatGPT export"):
        read(tmp_path / "result.json", json.dumps(CHATGPT, indent=1))


USER, REPLY = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "p", "response": "r"}, ("p", "r")),
        ({"question": "p", "answer": "r", "id": 3}, ("p", "r")),
        ({"instruction": "p", "input": "", "output": "r", "text": "x"}, ("p", "r")),
        ({"instruction": "p", "input": "i", "output": "r"}, ("p\n\ni", "r")),
        ({"instruction": "p", "context": "i", "response": "r"}, ("p\n\ni", "r")),
        ({"question": "p", "context": "i", "answer": "r"}, ("i\n\np", "r")),
        ({"prompt": "p", "context": "i", "completion": "r"}, ("i\n\np", "r")),
        ({"input": "p", "context": "i", "output": "r"}, ("i\n\np", "r")),
        ({"question": "p", "context": " ", "answer": "r"}, ("p", "r")),
        ({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}, None),
        ({"messages": [{"role": "Human", "content": "u"}, {"role": "bot", "content": "a"}]}, None),
        ({"conversations": [USER, REPLY]}, None),
        ({"messages": [USER, REPLY], "name": "n", "type": "t"}, None),
    ],
)
def test_fields_of_common_data_sets(tmp_path, record, expected):
    [document] = read(tmp_path / "a.jsonl", json.dumps(record))
    if expected is not None:
        assert (document.prompt, document.completion) == expected
        return
    assert document.messages == [USER, REPLY]


def test_system_and_earlier_turns_of_alpaca_and_sharegpt(tmp_path):
    alpaca = {"instruction": "u2", "input": "", "output": "a2", "history": [["u", "a"]]}
    sharegpt = {"system": "s", "conversations": [{"from": "human", "value": "u"}]}
    documents = read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, [alpaca, sharegpt])))
    assert [m["content"] for m in documents[0].messages] == ["u", "a", "u2", "a2"]
    assert [m["role"] for m in documents[1].messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"messages": [{"role": "narrator", "content": "x"}]},
            "the role 'narrator'. Roles are",
        ),
        ({"conversations": [{"from": "human"}]}, r"conversations\[0\] has no role"),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "looks like preferences"),
        ({"instruction": "p", "output": 3}, "output is a number"),
        ({"conversations": "x"}, "conversations is a string, not a list"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(tmp_path, record, message):
    with pytest.raises(ToolkitError, match=r"a\.jsonl:1: .*" + message):
        read(tmp_path / "a.jsonl", json.dumps(record))


def test_halves_of_characters(tmp_path):
    record = {"messages": [{"role": "user", "content": "a\ud83d"}, REPLY], "tools": ["\udc00"]}
    [document] = read(tmp_path / "a.jsonl", json.dumps(record))
    assert document.messages[0]["content"] == "a\ufffd" and document.tools == ["\ufffd"]
    assert document.repaired == 2
    document.content().encode()


def test_the_table_of_formats():
    names = [known.name for known in FORMATS]
    assert len(set(names)) == len(names) and names[-1] == "text"
    for known in FORMATS:
        assert [bool(known.read), bool(known.chats), bool(known.convert)].count(True) == 1
    assert set(FORMS) <= {"auto", *(known.name for known in FORMATS if not known.convert)}
