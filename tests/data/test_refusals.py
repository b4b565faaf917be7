"""Every row that is refused is named: file and line, or row, and why."""

import json
from pathlib import Path

import pytest

from tests.support.chatml import make_tokenizer
from toolkit.data.documents import read_documents
from toolkit.data.prepare import prepare
from toolkit.data.refusals import MOST, RowsRefused
from toolkit.data.settings import Settings
from toolkit.errors import ToolkitError

BAD = ("completion is a number, not a string", "found 'answer'")


def write(path: Path, kind: str) -> list[str]:
    """Write four rows, of which the second and the last are bad, and return where these are."""
    good = {"prompt": "p", "completion": "c"}
    rows = [good, {"prompt": "p", "completion": 3}, good, {"answer": "a"}]
    if kind == "json":
        path.write_text(json.dumps(rows))
        return [f"{path}[1]", f"{path}[3]"]
    path.write_text("\n".join(map(json.dumps, rows)))
    return [f"{path}:2", f"{path}:4"]


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_records(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    places = write(path, kind)
    with pytest.raises(RowsRefused) as refused:
        list(read_documents([path]))
    assert refused.value.rows == [f"{at}: {why}" for at, why in zip(places, BAD, strict=True)]
    assert str(refused.value) == (
        f"2 rows are refused, the first is {places[0]}: completion is a number, not a string"
    )


def test_lines_that_are_no_json(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n{"text": "b"}\n\n[1]\n' + "[" * 9000 + "\n")
    with pytest.raises(RowsRefused) as refused:
        list(read_documents([path]))
    assert refused.value.rows == [
        f"{path}:2: not valid JSON: Expecting value (column 10)",
        f"{path}:5: a JSON list instead of an object",
        f"{path}:6: JSON that is nested too deeply",
    ]


def test_tables(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,messages\n1,hello\n2,"[]"\n3,"{\n}"\n4\n5,"[{}]"\n')
    with pytest.raises(RowsRefused) as refused:
        list(read_documents([path]))
    first, *others = refused.value.rows
    assert first.startswith(f"{path}:2: column messages is not JSON: ")
    assert others == [
        f"{path}:4: messages is a object, not a list",
        f"{path}:6: 1 fields, the header names 2 columns",
        f"{path}:7: messages[0] has no role",
    ]


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_columns(tmp_path, kind):
    datasets = pytest.importorskip("datasets")
    rows = [[{"role": role, "content": "x"}] for role in ("user", "poet", "user", "painter")]
    dataset = datasets.Dataset.from_dict({"messages": rows})
    path = tmp_path / f"a.{kind}"
    dataset.to_parquet(path) if kind == "parquet" else dataset.save_to_disk(path)
    with pytest.raises(RowsRefused) as refused:
        list(read_documents([path]))
    assert refused.value.rows == [
        f"{path}[1]: messages[0] has the role 'poet'",
        f"{path}[3]: messages[0] has the role 'painter'",
    ]


def test_chats_that_the_template_refuses(tmp_path):
    tokenizer = make_tokenizer(
        "{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system message') }}{% endif %}"
        "{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    )
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    chats = [turns, [{"role": "system", "content": "s"}, *turns]] * 2
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"messages": chat}) for chat in chats))
    with pytest.raises(RowsRefused) as refused:
        prepare([path], tokenizer, Settings(64), tmp_path / "out")
    why = "the chat template refuses the messages: no system message"
    assert refused.value.rows == [f"{path}:2: {why}", f"{path}:4: {why}"]
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_template_is_said_once(tmp_path):
    path = tmp_path / "a.jsonl"
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    path.write_text(f"{json.dumps({'messages': turns})}\n" * 3)
    with pytest.raises(ToolkitError, match=r"^the tokenizer has no chat template"):
        prepare([path], make_tokenizer(None), Settings(64), tmp_path / "out")


def test_bad_rows_of_several_files_and_a_single_one(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a"}\n[]\n')
    with pytest.raises(RowsRefused) as refused:
        list(read_documents([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]))
    assert [row.rpartition("/")[2][:9] for row in refused.value.rows] == ["a.jsonl:2", "b.jsonl:2"]
    with pytest.raises(
        ToolkitError, match=r"^\S+/a\.jsonl:2: a JSON list instead of an object\. E"
    ):
        list(read_documents([tmp_path / "a.jsonl"]))


def test_a_file_of_something_else_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("[]\n" * (MOST + 50))
    with pytest.raises(RowsRefused, match=f"^{MOST} or more rows are refused") as refused:
        list(read_documents([path]))
    assert len(refused.value.rows) == MOST


def test_text_in_another_encoding(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nab\xe9c")
    with pytest.raises(ToolkitError, match=r"a\.txt:3: not UTF-8 text \(byte 10 of the file\)"):
        list(read_documents([tmp_path / "a.txt"]))
