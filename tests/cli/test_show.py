"""`toolkit data --show`: what the model will see, before or beside writing it."""

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.support.chatml import make_tokenizer
from toolkit.cli.main import app
from toolkit.cli.samples import print_samples
from toolkit.data.dataset import read_rows
from toolkit.data.showing import Sample, Shown, Token
from toolkit.files import sha256_file

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A command's words but for the options of each test, in a folder without data."""
    make_tokenizer(TEMPLATE).save_pretrained(tmp_path / "tokenizer")
    lines = [json.dumps({"prompt": f"hello {i}", "completion": f"fine [{i}]"}) for i in range(8)]
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    options = ["--tokenizer", "tokenizer", "--seq-len", "40", "--validation", "0", "--no-pack"]
    return ["data", *options]


def run(*words, code=0):
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == code, result.output
    return result


def shown(number: int) -> str:
    text = (
        f"--- chats.jsonl:{number}\n<|im_start|>user\nhello {number - 1}<|im_end|>\n"
        f"<|im_start|>assistant\n\u27e6fine [{number - 1}]<|im_end|>\u27e7\n"
    )
    return text


def test_five_are_shown_and_nothing_is_written(words, tmp_path):
    """The number may be left out, whatever follows."""
    for given in (["chats.jsonl", "--show"], ["--show", "chats.jsonl"]):
        result = run(*words, *given)
        head, *samples = result.stdout.split("--- chats.jsonl:")
        assert head.startswith(
            "5 of 8 training sequences, what is learned between \u27e6 and \u27e7"
        )
        assert len(samples) == 5 and "--- 5: " in samples[3]
        assert all(shown(number) in result.stdout for number in range(1, 6))
        assert "8 documents: 0 split" in result.stdout and "wrote" not in result.stdout
        assert result.stderr == "nothing is written; with -o data it is\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chats.jsonl", "tokenizer"]


@pytest.mark.parametrize("count", [["--show", "2"], ["--show=2"]])
def test_with_an_output_the_same_is_written(words, tmp_path, count):
    run(*words, "chats.jsonl")
    result = run(*words, "chats.jsonl", *count, "-o", "other")
    assert shown(2) in result.stdout and shown(3) not in result.stdout
    assert "wrote other" in result.stdout and "next: toolkit deploy" in result.stderr
    for name in ("train.ptd", "data.json"):
        assert sha256_file(tmp_path / "data" / name) == sha256_file(tmp_path / "other" / name)


def test_json_has_ids_labels_and_texts(words, tmp_path):
    found = json.loads(run(*words, "chats.jsonl", "--show", "3", "--json", "-o", "data").stdout)
    samples = found.pop("samples")
    assert found == json.loads((tmp_path / "data/data.json").read_text())
    rows = read_rows(tmp_path / "data/train.ptd")
    assert len(samples) == 3
    for index, sample in enumerate(samples):
        [document] = sample["documents"]
        count = len(document["ids"])
        assert document["source"] == f"chats.jsonl:{index + 1}"
        assert document["ids"] == rows.tokens[index, :count].tolist()
        assert document["labels"] == rows.labels[index, :count].tolist()
        assert "".join(document["texts"]).endswith(f"<|im_start|>assistant\nfine [{index}]")
        assert (
            "".join(text or "" for text in document["label_texts"]) == f"fine [{index}]<|im_end|>"
        )
        assert count + sample["padding"] == 40
    assert "samples" not in json.loads(run(*words, "chats.jsonl", "--json").stdout)


def test_mistakes(words, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/a.txt").write_text("years of work")
    assert (
        "is not a data set" in run(*words, "chats.jsonl", "--show", "-o", "thesis", code=1).stderr
    )
    assert "--show" in run(*words, "chats.jsonl", "--show", "0", code=2).stderr
    assert "it takes no --show" in run(*words, "--random", "2", "--show", code=2).stderr


SAMPLE = Sample(
    [
        Shown(
            "a\x1b[2J.jsonl:1",
            [1, 2, 3],
            [-100, 4, 5],
            [
                Token("<s>", learned=False, special=True),
                Token("a \x1b[31m\u202e\r\n", learned=False, special=False),
                Token("\tb", learned=True, special=False),
                Token("</s>", learned=True, special=True),
            ],
        )
    ],
    padding=1,
)


def printed(monkeypatch, capsys, colors: str | None) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=colors, width=200)
    monkeypatch.setattr("toolkit.cli.samples.console", console)
    print_samples([SAMPLE], 1)
    return file.getvalue() + capsys.readouterr().out


def test_a_terminal_has_it_underlined(monkeypatch, capsys):
    text = printed(monkeypatch, capsys, "standard")
    assert "\x1b[36m<s>\x1b[0ma \\x1b[31m\\u202e\\r\n" in text
    assert "\x1b[4;32m" in text and "b\x1b[0m\x1b[4;36m</s>\x1b[0m\n" in text
    assert "\u27e6" not in text


def test_without_colours_nothing_is_obeyed_by_a_terminal(monkeypatch, capsys):
    text = printed(monkeypatch, capsys, None)
    assert "<s>a \\x1b[31m\\u202e\\r\n\u27e6\tb</s>\u27e7\n" in text
    assert "--- a\\x1b[2J.jsonl:1\n" in text and "\x1b" not in text
