"""Files to documents; whatever is wrong is named with file and line."""

import json
from pathlib import Path

import pytest

from toolkit.data.documents import read_documents
from toolkit.errors import ToolkitError


def read(path: Path, content: str | bytes):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_documents([path]))


def test_every_format(tmp_path):
    lines = [
        {"text": "plain"},
        {"prompt": "p", "completion": "c"},
        {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]},
        {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": "u"}]}],
            "completion": [{"role": "assistant", "content": "a"}],
        },
    ]
    documents = read(tmp_path / "d.jsonl", "\n\n".join(map(json.dumps, lines)) + "\n")
    assert [document.source[-2:] for document in documents] == [":1", ":3", ":5", ":7"]
    assert documents[0].text == "plain"
    assert (documents[1].prompt, documents[1].completion) == ("p", "c")
    assert documents[2].messages == lines[2]["messages"] == documents[3].messages
    assert documents[2].content() == documents[3].content() != documents[0].content()


def test_a_text_file_is_one_document(tmp_path):
    [document] = read(tmp_path / "book.txt", "\ufeffone\n\ntwo\n")
    assert document.text == "one\n\ntwo\n"


def test_line_separators_inside_strings_are_kept(tmp_path):
    [document] = read(tmp_path / "d.jsonl", '{"text": "a\u2028b"}\r\n')
    assert document.text == "a\u2028b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', r"d\.jsonl:2: not valid JSON: .*column"),
        ("[1]", r"d\.jsonl:2: a JSON list instead of an object"),
        ('{"txt": "a"}', r"d\.jsonl:2: found 'txt'\. A record needs \{text\}"),
        ('{"text": 3}', r"d\.jsonl:2: text is a number, not a string"),
        ('{"prompt": "a", "completion": null}', r"d\.jsonl:2: completion is a null"),
        ('{"messages": {}}', r"d\.jsonl:2: messages is a object, not a list"),
        ('{"messages": [{"content": "a"}]}', r"d\.jsonl:2: messages\[0\] has no role"),
        ('{"messages": [{"role": "user"}]}', r"d\.jsonl:2: messages\[0\]\.content is a null"),
        (
            '{"messages": [{"role": "user", "content": [{"type": "image"}]}]}',
            r"d\.jsonl:2: messages\[0\] has content that is not text",
        ),
    ],
)
def test_bad_lines(tmp_path, line, message):
    with pytest.raises(ToolkitError, match=message):
        read(tmp_path / "d.jsonl", '{"text": "good"}\n' + line + "\n")


def test_bad_files(tmp_path):
    with pytest.raises(ToolkitError, match=r"cannot read .*none\.txt: No such file"):
        list(read_documents([tmp_path / "none.txt"]))
    with pytest.raises(ToolkitError, match=r"latin\.txt:1: not UTF-8 text \(byte 2 of"):
        read(tmp_path / "latin.txt", b"ab\xe9c")
    with pytest.raises(ToolkitError, match="is a directory"):
        list(read_documents([tmp_path]))


def test_options_that_nothing_takes_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("just text")
    (tmp_path / "chat.txt").write_text("31.12.20, 22:15 - Ann: hi\n31.12.20, 22:16 - Bob: so\n")
    text, chat = tmp_path / "a.txt", tmp_path / "chat.txt"
    for option, given in (("me", "Bob"), ("split", "train"), ("subset", "small")):
        with pytest.raises(ToolkitError, match=f"^--{option} has no effect: .*Leave --{option}"):
            list(read_documents([text], **{option: given}))
    with pytest.raises(ToolkitError, match="--me has no effect"):
        list(read_documents([chat], "text", me="Bob"))
    with pytest.raises(ToolkitError, match="--split has no effect"):
        list(read_documents([chat], me="Bob", split="test"))
    assert len(list(read_documents([text, chat], me="Bob"))) == 2
