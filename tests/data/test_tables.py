"""CSV, TSV, Parquet and data sets: columns are read as the fields of records."""

import json
import sys
from pathlib import Path

import pytest

from toolkit.data.documents import read_documents
from toolkit.errors import ToolkitError

CSV = 'question,answer\n"What, then?","Nothing,\nreally"\nWho?,You\n\nWhy?,Because\n'
PAIRS = [("What, then?", "Nothing,\nreally"), ("Who?", "You"), ("Why?", "Because")]


def read(path: Path, content: str, form: str = "auto"):
    path.write_bytes(content.encode())
    return list(read_documents([path], form))


def pairs(documents) -> list[tuple[str, str]]:
    return [(document.prompt, document.completion) for document in documents]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("notes.txt", CSV),
        ("a.csv", "\ufeff" + CSV.replace("\n", "\r\n").replace(",\r\n", ",\n")),
        ("a.csv", CSV.replace("?,", "?;").replace("n,a", "n;a").replace('",', '";')),
        ("a.tsv", CSV.replace("?,", "?\t").replace("n,a", "n\ta").replace('",', '"\t')),
        ("a.csv", CSV.replace("question", "Question ").replace("answer", '"Answer"')),
    ],
)
def test_tables(tmp_path, name, content):
    documents = read(tmp_path / name, content)
    assert pairs(documents) == PAIRS
    assert [d.source.rpartition(":")[2] for d in documents] == ["2", "4", "6"]


def test_columns_that_are_not_known_and_lists_in_cells(tmp_path):
    messages = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    cell = json.dumps(messages).replace('"', '""')
    [document] = read(tmp_path / "a.csv", f'id,messages,tools\n1,"{cell}",\n')
    assert document.messages == messages and document.tools is None
    [document] = read(tmp_path / "b.csv", "id,instruction,input,output\n1,do,,done\n")
    assert pairs([document]) == [("do", "done")]
    long = "x" * 200_000
    assert [d.text for d in read(tmp_path / "c.csv", f"text\n{long}\nb\n")] == [long, "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2,3\n4,5,6\n", r":1: a table's first line names its columns, this one has '1', '2'"),
        ("", ":1: .*this one has nothing"),
        ("prompt,prompt,completion\na,b,c\n", ":1: .*this one has 'prompt', 'prompt'"),
        ("prompt,id\na,1\n", ":2: found 'prompt'"),
        ('prompt,completion\n"a\nb",c\nd\n', ":4: 1 fields, the header names 2"),
        ('prompt,completion\na,"b\n', ":2: not a row: unexpected end"),
        ('prompt,completion\na,b\n"a" b,c\n', ":3: not a row: .*double quotes"),
        ("messages\nhello\n", ":2: column messages is not JSON"),
        ("messages\n3\n", ":2: messages is a number, not a list"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, content, message):
    with pytest.raises(ToolkitError, match=r"a\.csv" + message):
        read(tmp_path / "a.csv", content)


RECORDS = [
    {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]},
    {
        "messages": [
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function"}]},
        ]
    },
]


@pytest.fixture
def dataset():
    return pytest.importorskip("datasets").Dataset.from_list(
        [{**record, "id": i} for i, record in enumerate(RECORDS)]
    )


def test_parquet(tmp_path, dataset):
    path = tmp_path / "a.bin"
    dataset.to_parquet(path)
    documents = list(read_documents([path]))
    assert [document.messages for document in documents] == [r["messages"] for r in RECORDS]
    assert documents[1].source == f"{path}[1]"
    dataset.select_columns("id").to_parquet(path)
    with pytest.raises(ToolkitError, match=r"a\.bin: found 'id'"):
        list(read_documents([path]))
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(ToolkitError, match=r"a\.bin is a damaged Parquet file"):
        list(read_documents([path]))


def test_folders_of_data_sets(tmp_path, dataset, monkeypatch):
    from datasets import DatasetDict

    expected = [record["messages"] for record in RECORDS]
    dataset.save_to_disk(tmp_path / "one")
    assert [d.messages for d in read_documents([tmp_path / "one"])] == expected
    DatasetDict({"train": dataset, "test": dataset.select([1])}).save_to_disk(tmp_path / "two")
    assert [d.messages for d in read_documents([tmp_path / "two"])] == expected
    [document] = read_documents([tmp_path / "two"], split="test")
    assert document.messages == expected[1] and document.source == f"{tmp_path / 'two'}[0]"
    with pytest.raises(ToolkitError, match=r"no split 'dev'. Choose with --split: train, test"):
        list(read_documents([tmp_path / "two"], split="dev"))
    (tmp_path / "three/data").mkdir(parents=True)
    dataset.to_parquet(tmp_path / "three/data/train-00000-of-00001.parquet")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    assert [d.messages for d in read_documents([tmp_path / "three"])] == expected


def test_ids_of_the_hub(tmp_path, dataset, monkeypatch):
    from datasets import DatasetDict

    asked = []

    def load(name, subset):
        asked.append((name, subset))
        return DatasetDict({"train": dataset})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.load_dataset", load)
    documents = list(read_documents([Path("some/chats")], subset="small"))
    assert asked == [("some/chats", "small")] and documents[0].source == "some/chats[0]"
    for path in ("some/chats.jsonl", "chats"):
        with pytest.raises(ToolkitError, match=f"cannot read {path}"):
            list(read_documents([Path(path)]))
    for path in ("some/chats.arrow", "some/chats.JSONL", "some/notes.rst"):  # a file misspelt
        with pytest.raises(ToolkitError, match=rf"cannot read {path}: No such file"):
            list(read_documents([Path(path)]))
    for name in ("some/chats-v1.5", "some/chats.v2", "some/chats.en"):
        assert list(read_documents([Path(name)]))
    (tmp_path / "some").mkdir()
    with pytest.raises(ToolkitError, match="cannot read some/chats"):
        list(read_documents([Path("some/chats")]))


def test_what_was_saved_has_no_subsets(tmp_path, dataset):
    dataset.save_to_disk(str(tmp_path / "one"))
    with pytest.raises(ToolkitError, match="--subset has no effect"):
        list(read_documents([tmp_path / "one"], subset="small"))
    assert list(read_documents([tmp_path / "one"], split="train"))


def test_without_the_library_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    for source in (path, Path("some/chats")):
        with pytest.raises(ToolkitError, match="needs the datasets library") as error:
            list(read_documents([source]))
        assert error.value.remedy == 'Install it: pip install "toolkit[datasets]"'
