"""`toolkit inspect` of training data."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from tests.support.chatml import QWEN2, SMOLLM2, make_tokenizer
from toolkit.cli.main import app
from toolkit.data.prepare import prepare, prepare_random
from toolkit.data.settings import Settings
from toolkit.data.template import ChatTemplate
from toolkit.data.tokenizers import load_tokenizer
from toolkit.sealed_json import seal

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>{% endfor %}"


def run(*words, code=0):
    result = CliRunner().invoke(app, ["inspect", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data made by its tokenizer, and another tokenizer."""
    folder = tmp_path_factory.mktemp("inspect")
    for name, template in (("model", SMOLLM2), ("other", QWEN2)):
        make_tokenizer(template).save_pretrained(folder / name)
    records = [{"prompt": f"hello {i}", "completion": f"fine {i}"} for i in range(8)]
    (folder / "chats.jsonl").write_text("\n".join(map(json.dumps, records)))
    settings = Settings(48, chat_template=ChatTemplate("mine.jinja", TEMPLATE))
    tokenizer = load_tokenizer(str(folder / "model"))
    prepare([folder / "chats.jsonl"], tokenizer, settings, folder / "data")
    return folder


def test_where_it_came_from_and_how_much_it_is(folder):
    result = run(folder / "data")
    report = json.loads((folder / "data/data.json").read_text())
    assert "Sources    chats.jsonl\nTokenizer  model\nTemplate   mine.jinja" in result.stdout
    assert f"(SHA-256 {report['chat_template']['sha256'][:12]})" in result.stdout
    assert "8 documents: 0 split, 0 truncated, dropped: none\ntrain: " in result.stdout
    assert "Hashes match in all 3 files." in result.stdout
    assert result.stderr == f"next: toolkit deploy BUNDLE --data {folder / 'data'}\n"
    assert "Hashes not checked." in run(folder / "data", "--no-hashes").stdout
    found = json.loads(run(folder / "data", "--json").stdout)
    assert found == report | {"hashes": "match"}


def test_samples_are_those_that_data_shows(folder):
    words = ("--tokenizer", folder / "model", "--show", 2)
    result = run(folder / "data", *words)
    assert result.stdout.count("\u27e6fine ") == result.stdout.count("<|im_end|>\u27e7") == 6
    assert "<user>hello 1<|im_end|><assistant>\u27e6fine 1<|im_end|>\u27e7\n---\n<user>" in (
        result.stdout
    )
    found = json.loads(run(folder / "data", *words, "--json").stdout)["samples"]
    data = ["data", folder / "chats.jsonl", *words, "--seq-len", 48, "--json"]
    (folder / "mine.jinja").write_text(TEMPLATE)
    made = CliRunner().invoke(app, [*map(str, data), "--chat-template", f"{folder}/mine.jinja"])
    expected = json.loads(made.stdout)["samples"]
    for sample in expected:
        for document in sample["documents"]:
            assert document["source"].startswith(f"{folder}/chats.jsonl:")
            document["source"] = ""
    assert found == expected and len(found) == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["data", "--show"], 2, "--show and --tokenizer need each other"),
        (["data", "--tokenizer", "model"], 2, "--show and --tokenizer need each other"),
        (["data", "--tensors", "3"], 2, "--tensors is for bundles"),
        (["model", "--show", "--tokenizer", "model"], 2, "--show and --tokenizer are for data"),
        (["model"], 1, "model is not a bundle"),
        (["data", "--show", "--tokenizer", "other"], 1, "the tokenizer of model, "),
        (["data", "--show", "--tokenizer", "nosuch"], 1, "there is no tokenizer at"),
        (["random", "--show", "--tokenizer", "model"], 1, "of random tokens, "),
    ],
)
def test_mistakes(folder, words, code, message):
    if not (folder / "random").exists():
        prepare_random(2, 8, 300, 0, folder / "random")
    words = [folder / word if word[0] != "-" and word != "3" else word for word in words]
    result = run(*words, code=code)
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_damaged_data_is_one_line(folder, tmp_path):
    copy = shutil.copytree(folder / "data", tmp_path / "copy")
    content = bytearray((copy / "train.ptd").read_bytes())
    content[-1] ^= 1
    (copy / "train.ptd").write_bytes(content)
    result = run(copy, code=1)
    assert result.stdout == "" and result.stderr.count("\n") == 1
    assert f"the data set {copy} is damaged: train.ptd does not match" in result.stderr
    report = json.loads((folder / "data/data.json").read_text())
    for name, value in (("version", 1), ("train", {}), ("tokenizer", 3), ("sources", [3])):
        (copy / "data.json").write_text(json.dumps(seal(report | {name: value})))
        result = run(copy, "--no-hashes", code=1)
        assert result.stdout == "" and result.stderr.count("\n") == 1
        assert ("format version 1" if name == "version" else "is damaged") in result.stderr
