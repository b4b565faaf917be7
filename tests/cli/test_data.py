"""`toolkit data` as a user calls it."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.support.bundles import export_tiny, export_with_tokenizer
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
    result = toolkit(*words)
    assert "10 documents: 0 split, 0 truncated, dropped: none" in result.stdout
    assert "validation: 1 sequence of 128 tokens from 1 document," in result.stdout
    assert result.stderr == f"next: toolkit deploy BUNDLE --data {out}\n"
    report = json.loads(toolkit(*words, "--json", "--validation", 0, "--no-pack").stdout)
    assert report == json.loads((out / "data.json").read_text())
    assert report["train"]["sequences"] == 10
    assert read_rows(out / "train.ptd").tokens.shape == (10, 128)
    assert not (out / "validation.ptd").exists()


def test_an_added_token_that_the_model_has_no_row_for(tmp_path):
    """As Gemma 3's for images, of which its small models have nothing."""
    words = make_tokenizer(SMOLLM2)
    words.add_tokens(["<image>"], special_tokens=True)
    bundle = export_with_tokenizer(tmp_path / "bundle", tokenizer=words)
    text = tmp_path / "text.txt"
    text.write_text("How many is four? It is four. " * 20)
    toolkit("data", text, "--tokenizer", bundle, "-o", tmp_path / "out")
    text.write_text("How many is <image>? It is four. " * 20)
    said = toolkit("data", text, "--tokenizer", bundle, "-o", tmp_path / "other", code=1).output
    assert "the text has <image>, of which the bundle's model knows nothing" in said
    assert not (tmp_path / "other").exists()


def test_random_tokens_for_a_bundle(tmp_path, bundle):
    out = tmp_path / "out"
    report = json.loads(
        toolkit("data", "--random", 3, "--bundle", bundle, "-o", out, "--json").stdout
    )
    assert report["settings"]["seq_len"] == 24 and report["vocab_size"] == 150
    result = toolkit("data", "--random", 3, "--seq-len", 16, "--bundle", bundle, "-o", out)
    assert result.stderr == f"next: toolkit deploy {bundle} --data {out}\n"
    assert read_rows(out / "train.ptd").tokens.shape == (3, 16)


def test_what_is_unexpected_is_said(tmp_path, tokenizer, chats):
    words = ("data", "--tokenizer", tokenizer, "--seq-len", 32, "-o", tmp_path / "out")
    (tmp_path / "short.txt").write_text("hello")
    assert "nothing is held out: that takes two" in toolkit(*words, tmp_path / "short.txt").output
    (tmp_path / "half.jsonl").write_text('{"text": "half \\ud83d emoji, hello there"}\n' * 2)
    output = toolkit(*words, tmp_path / "half.jsonl").output
    assert "2 documents had halves of characters" in output
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello " * 9}]
    lines = [{"messages": [*turns * 9, {"role": "user", "content": str(i)}]} for i in range(3)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = toolkit(*words, tmp_path / "long.jsonl").output
    assert "of the tokens instead of 5.0%: chats" in output


def test_tables_are_read_by_row_or_as_text_when_asked_for(tmp_path, tokenizer):
    (tmp_path / "a.csv").write_text("question,answer\n" + "Who?,You\n" * 30)
    words = ("data", tmp_path / "a.csv", "--tokenizer", tokenizer, "--seq-len", 64)
    words += ("-o", tmp_path / "out", "--json")
    report = json.loads(toolkit(*words).stdout)
    assert report["documents"] == 30 and report["train"]["labelled"] > 0
    report = json.loads(toolkit(*words, "--format", "text").stdout)
    assert report["documents"] == 1 and report["settings"]["form"] == "text"


def test_every_refused_row_is_a_line(tmp_path, tokenizer):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "fine"}\n' + '{"txt": 1}\n' * 30)
    words = ("data", path, "--tokenizer", tokenizer, "--seq-len", 64, "-o", tmp_path / "out")
    result = toolkit(*words, "--json", code=1)
    *lines, more, error = result.stderr.splitlines()
    assert lines == [f"{path}:{line}: found 'txt'" for line in range(2, 22)]
    assert more == "... and 10 more"
    assert error.startswith(
        f"error: 30 rows are refused, the first is {path}:2: found 'txt'. A rec"
    )
    assert json.loads(result.stdout)["error"] == error.removeprefix("error: ").partition(". ")[0]


def test_every_row_that_is_left_out_is_a_line(tmp_path, tokenizer):
    path = tmp_path / "few.jsonl"
    path.write_text('{"text": ""}\n' * 30 + '{"text": "hello there"}\n')
    words = ("data", path, "--tokenizer", tokenizer, "--seq-len", 64, "-o", tmp_path / "out")
    result = toolkit(*words)
    *lines, more, _ = result.stderr.splitlines()
    assert lines == [f"left out: {path}:{line}: empty" for line in range(1, 21)]
    assert more == "... and 10 more" and "dropped: 30 empty" in result.stdout


@pytest.mark.parametrize("books", [1, 3])
def test_five_percent_of_books_are_held_out_and_trained_on_nowhere(tmp_path, tokenizer, books):
    files, texts = [tmp_path / f"{book}.txt" for book in range(books)], []
    for book, file in enumerate(files):
        texts.append(" ".join(str((i * 7919 + book * 104729) % 99991) for i in range(2000)))
        file.write_text(texts[-1])
    out = tmp_path / "out"
    words = ("data", *files, "--tokenizer", tokenizer, "--seq-len", 64, "-o", out, "--json")
    report = json.loads(toolkit(*words, "--validation", 0.05).stdout)
    tokens = {part: report[part]["tokens"] for part in ("train", "validation")}
    assert abs(tokens["validation"] - 0.05 * sum(tokens.values())) <= 64
    held = {tuple(row) for row in read_rows(out / "validation.ptd").labels.tolist()}
    assert held and not held & {tuple(row) for row in read_rows(out / "train.ptd").labels.tolist()}


def test_a_chat_with_me_in_it(tmp_path, tokenizer):
    lines = [
        f"{day}.01.21, 10:0{i} - {name}: hello {day}\n"
        for day in range(10, 30)
        for i, name in enumerate(("Ann", "Bob"))
    ]
    (tmp_path / "chat.txt").write_text("".join(lines))
    out = tmp_path / "out"
    words = ("data", tmp_path / "chat.txt", "--tokenizer", tokenizer, "--seq-len", 64, "-o", out)
    error = toolkit(*words, code=1).stderr
    assert "Ann (20), Bob (20)" in error and "--me NAME" in error and error.count("\n") == 1
    report = json.loads(toolkit(*words, "--me", "Bob", "--validation", 0.1, "--json").stdout)
    assert report["documents"] == 20 and report["validation"]["documents"] == 2
    assert "Bob" not in (out / "data.json").read_text()


@pytest.mark.parametrize("kind", ["array", "csv", "parquet", "folder"])
def test_the_same_records_are_held_out_whatever_holds_them(tmp_path, tokenizer, kind):
    records = [{"prompt": f"hello {i}", "completion": f"fine {i}"} for i in range(20)]
    datasets = pytest.importorskip("datasets").Dataset.from_list(records)
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, records)))
    other = tmp_path / {"array": "a.json", "csv": "a.csv"}.get(kind, f"a.{kind}")
    if kind == "array":
        other.write_text(json.dumps(records))
    elif kind == "csv":
        datasets.to_csv(other)
    elif kind == "parquet":
        datasets.to_parquet(other)
    else:
        datasets.save_to_disk(other)
    rows = []
    for path in (tmp_path / "lines.jsonl", other):
        out = tmp_path / f"{path.name}-out"
        words = ("data", path, "--tokenizer", tokenizer, "--seq-len", 64, "--validation", 0.2)
        report = json.loads(toolkit(*words, "-o", out, "--json").stdout)
        assert report["validation"]["documents"] == 4
        rows.append([read_rows(out / f"{part}.ptd") for part in ("train", "validation")])
    for first, second in zip(*rows, strict=True):
        assert (first.tokens == second.tokens).all() and (first.labels == second.labels).all()


def test_a_tokenizer_of_the_hub_comes_without_weights(tmp_path, tokenizer, chats, monkeypatch):
    asked = {}

    def download(model, **options):
        asked.update(options, model=model)
        return str(tokenizer)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    words = ("data", chats, "--tokenizer", "some/model", "--seq-len", 64, "-o", tmp_path / "out")
    toolkit(*words)
    assert asked["model"] == "some/model" and "*.json" in asked["allow_patterns"]
    assert not any(pattern.endswith("safetensors") for pattern in asked["allow_patterns"])

    def fail(*_arguments, **_options):
        raise OSError("no route to the hub.\nmore")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    error = toolkit(*words, code=1).stderr
    assert error == (
        "error: Cannot download some/model: no route to the hub. Check the connection, or give a "
        "local directory\n"
    )


def test_mistakes_show_before_anything_heavy_is_imported(tmp_path, tokenizer):
    """A mistake in the arguments or in the files takes no seconds to be told."""
    (tmp_path / "bad.jsonl").write_text("{\n")
    options = ["--tokenizer", str(tokenizer), "--seq-len", "8", "-o", str(tmp_path / "out")]
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from toolkit.cli.main import app\n"
        "result = CliRunner().invoke(app, sys.argv[1:])\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
        "print(result.exit_code, result.stderr)\n"
    )
    for words, message in (
        (["none.txt", *options], "cannot read none.txt"),
        ([str(tmp_path / "bad.jsonl"), *options], "not valid JSON"),
        (["none.txt", *options, "--long", "x"], "unknown way 'x'"),
        (["none.txt", "--tokenizer", "nosuch"], "there is no tokenizer at nosuch"),
    ):
        command = [sys.executable, "-c", script, "data", *words]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        heavy, answer = output.split("\n", 1)
        assert heavy == "[]" and answer.startswith("1 ") and message in answer, output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--bundle", "BUNDLE"], 2, "give either files or --random"),
        (["CHATS"], 1, "Give --tokenizer"),
        (["CHATS", "--tokenizer", "TOKENIZER"], 1, "Give --seq-len"),
        (["--random", "3", "--tokenizer", "TOKENIZER", "--seq-len", "8"], 1, "Give --bundle"),
        (["--random", "3", "--bundle", "BUNDLE", "--seq-len", "8"], 1, "no programs for 8 tokens"),
        (["--random", "3", "--bundle", "TOKENIZER"], 1, "is not a bundle"),
        (["CHATS", "--tokenizer", "BUNDLE"], 1, "has no tokenizer"),
        (["CHATS", "--tokenizer", "nosuch"], 1, "there is no tokenizer at nosuch"),
        (["CHATS", "--tokenizer", "no/such/one"], 1, "there is no tokenizer at no/such/one"),
        (["CHATS", "--tokenizer", "TOKENIZER", "--format", "doc"], 2, "'doc' is not one of"),
        (["CHATS", "--tokenizer", "TOKENIZER", "--bundle", "BUNDLE"], 1, "the bundle 150"),
        (["./no/file", "--tokenizer", "TOKENIZER"], 1, "cannot read ./no/file: No such file"),
        (["../no", "--tokenizer", "TOKENIZER"], 1, "cannot read ../no: No such file"),
        (["/no/file", "--tokenizer", "TOKENIZER"], 1, "cannot read /no/file: No such file"),
        (["CHATS", "--tokenizer", "TOKENIZER", "--seq-len", "8", "--me", "a"], 1, "--me has no"),
        (["CHATS", "--tokenizer", "TOKENIZER", "--seq-len", "8", "--split", "a"], 1, "--split has"),
        (["CHATS", "--tokenizer", "TOKENIZER", "--seq-len", "8", "--subset", "a"], 1, "--subset"),
        (
            ["--random", "3", "--bundle", "BUNDLE", "--me", "a", "--split", "b"],
            2,
            "--random reads nothing, so it takes no --me, --split",
        ),
        (["none.txt", "--tokenizer", "TOKENIZER", "--seq-len", "8"], 1, "cannot read none.txt"),
        (
            ["CHATS", "--tokenizer", "TOKENIZER", "--seq-len", "8", "--chat-template", "no.jinja"],
            1,
            "cannot read the chat template no.jinja",
        ),
        (
            ["--random", "3", "--bundle", "BUNDLE", "--chat-template", "no.jinja"],
            2,
            "--random reads nothing, so it takes no --chat-template",
        ),
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
