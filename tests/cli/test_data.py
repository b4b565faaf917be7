"""`toolkit data` as a user calls it."""

import json

import pytest
from typer.testing import CliRunner

from tests.support.bundles import export_tiny
from tests.support.chatml import SMOLLM2, make_tokenizer
from toolkit.cli.main import app
from toolkit.data.dataset import read_rows


def toolkit(*words: object, code: int = 0):
    """Run the command line and return its result, standard error included."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("data") / "bundle", "llama", seq_lens=(16, 24))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(SMOLLM2).save_pretrained(folder)
    return folder


@pytest.fixture
def chats(tmp_path):
    lines = [
        {"messages": [{"role": "user", "content": f"{i}"}, {"role": "assistant", "content": "a"}]}
        for i in range(10)
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_chats(tmp_path, tokenizer, chats):
    out = tmp_path / "out"
    words = ("data", chats, "--tokenizer", tokenizer, "--seq-len", 128, "-o", out)
    output = toolkit(*words).output
    assert "10 documents: 0 split, 0 truncated, dropped: none" in output
    assert "validation: 1 sequences of 128 tokens from 1 documents" in output
    report = json.loads(toolkit(*words, "--json", "--validation", 0, "--no-pack").stdout)
    assert report == json.loads((out / "data.json").read_text())
    assert report["train"]["sequences"] == 10
    assert read_rows(out / "train.ptd").tokens.shape == (10, 128)
    assert not (out / "validation.ptd").exists()


def test_random_tokens_for_a_bundle(tmp_path, bundle):
    out = tmp_path / "out"
    report = json.loads(
        toolkit("data", "--random", 3, "--bundle", bundle, "-o", out, "--json").stdout
    )
    assert report["settings"]["seq_len"] == 24 and report["vocab_size"] == 150
    toolkit("data", "--random", 3, "--seq-len", 16, "--bundle", bundle, "-o", out)
    assert read_rows(out / "train.ptd").tokens.shape == (3, 16)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--bundle", "BUNDLE"], 2, "give either files or --random"),
        (["CHATS"], 2, "give --tokenizer"),
        (["CHATS", "--tokenizer", "TOKENIZER"], 2, "give --seq-len"),
        (["--random", "3", "--tokenizer", "TOKENIZER", "--seq-len", "8"], 2, "needs --bundle"),
        (["--random", "3", "--bundle", "BUNDLE", "--seq-len", "8"], 1, "no programs for 8 tokens"),
        (["--random", "3", "--bundle", "TOKENIZER"], 1, "is not a bundle"),
        (["CHATS", "--tokenizer", "BUNDLE"], 1, "has no tokenizer"),
        (["CHATS", "--tokenizer", "TOKENIZER", "--bundle", "BUNDLE"], 1, "the bundle 150"),
        (["none.txt", "--tokenizer", "TOKENIZER", "--seq-len", "8"], 1, "cannot read none.txt"),
    ],
)
def test_mistakes(tmp_path, bundle, tokenizer, chats, words, code, message):
    paths = {"BUNDLE": bundle, "TOKENIZER": tokenizer, "CHATS": chats}
    words = [paths.get(word, word) for word in words]
    result = toolkit("data", *words, "-o", tmp_path / "out", code=code)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    if code == 1:
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
