"""From files to a data directory: what it holds, that it is deterministic, what it reports."""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.chatml import make_tokenizer
from toolkit.data.dataset import random_rows, read_rows
from toolkit.data.prepare import prepare, prepare_random
from toolkit.data.samples import IGNORED
from toolkit.data.settings import Settings
from toolkit.data.splitmix import SplitMix64, splitmix64
from toolkit.errors import ToolkitError
from toolkit.files import sha256_file


def write_lines(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def chat(*contents: str) -> dict:
    roles = ["user", "assistant"]
    return {"messages": [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]}


def replies(path: Path, tokenizer) -> list[str]:
    """Return the text of every run of labels in a token file."""
    rows = read_rows(path)
    texts = []
    for labels in rows.labels:
        runs = np.split(labels, np.flatnonzero(np.diff(labels == IGNORED)) + 1)
        texts += [tokenizer.decode(run) for run in runs if run[0] != IGNORED]
    return texts


@pytest.fixture
def chats(tmp_path) -> Path:
    records = [chat(f"hello {i}", f"fine {i}", "and you", f"thank you {i}") for i in range(20)]
    return write_lines(tmp_path / "chats.jsonl", records)


@pytest.mark.parametrize("pack", [True, False])
def test_chats(tmp_path, smollm2, chats, pack):
    report = prepare([chats], smollm2, Settings(128, pack=pack, validation=0.1), tmp_path / "out")
    assert report == json.loads((tmp_path / "out/data.json").read_text())
    assert report["documents"] == 20 and report["dropped"] == {}
    assert report["train"]["documents"] == 18 and report["validation"]["documents"] == 2
    assert (report["train"]["sequences"] < 18) == pack
    for name, entry in report["files"].items():
        assert sha256_file(tmp_path / "out" / name) == entry["sha256"]
    learned = replies(tmp_path / "out/train.ptd", smollm2)
    learned += replies(tmp_path / "out/validation.ptd", smollm2)
    expected = [f"{text} {i}<|im_end|>" for i in range(20) for text in ("fine", "thank you")]
    assert sorted(learned) == sorted(expected)


def test_same_input_same_bytes_and_seed_matters(tmp_path, smollm2, chats):
    def digests(name: str, seed: int) -> dict:
        settings = Settings(128, seed=seed, validation=0.2)
        files = prepare([chats], smollm2, settings, tmp_path / name)["files"]
        return {file: entry["sha256"] for file, entry in files.items()}

    assert digests("one", 0) == digests("two", 0) != digests("three", 1)
    assert (tmp_path / "one/data.json").read_bytes() == (tmp_path / "two/data.json").read_bytes()


def test_long_chats_are_split_before_user_turns_with_the_system_message(tmp_path, smollm2):
    system = {"role": "system", "content": "SYS"}
    record = chat("hello", "fine 1", "hello", "fine 2", "hello", "fine 3", "hello", "fine 4")
    record["messages"].insert(0, system)
    path = write_lines(tmp_path / "long.jsonl", [record])
    out = tmp_path / "out"
    report = prepare([path], smollm2, Settings(70, pack=False, validation=0), out)
    assert report["split"] == 1 and report["truncated"] == 0 and report["dropped"] == {}
    rows = read_rows(out / "train.ptd")
    assert len(rows.tokens) > 1
    for tokens in rows.tokens:
        assert smollm2.decode(tokens).startswith("<|im_start|>system\nSYS<|im_end|>\n<|im_start|>u")
    assert replies(out / "train.ptd", smollm2) == [f"fine {i}<|im_end|>" for i in range(1, 5)]


def test_long_chats_are_split_where_only_an_earlier_reply_is_too_long(tmp_path):
    """A template that hides earlier replies: the whole fits, the part with the second does not."""
    tokenizer = make_tokenizer(
        "{% for m in messages %}{{ m.role }}:{% if m.role == 'user' or loop.last %}"
        "{{ m.content }}{% endif %}<|im_end|>{% endfor %}"
    )
    long = "fine " * 20
    record = chat("hello " * 15, "one", "hello", long + "2", "hello", "three")
    path = write_lines(tmp_path / "long.jsonl", [record])
    report = prepare([path], tokenizer, Settings(50, pack=False, validation=0), tmp_path / "out")
    assert report["split"] == 1 and report["truncated"] == 0
    expected = {"one<|im_end|>", f"{long}2<|im_end|>", "three<|im_end|>"}
    assert set(replies(tmp_path / "out/train.ptd", tokenizer)) == expected
    report = prepare([path], tokenizer, Settings(60, pack=False, validation=0), tmp_path / "out")
    assert report["split"] == 0, "and is left whole where all of it fits"


def test_truncated_and_dropped_are_counted(tmp_path, smollm2):
    records = [
        chat("hello", "fine " * 100),
        chat("hello " * 200, "never seen"),
        chat("nobody answers"),
        {"text": "  \n"},
        chat("hello", "fine"),
    ]
    path = write_lines(tmp_path / "d.jsonl", records)
    report = prepare([path], smollm2, Settings(100, validation=0), tmp_path / "out")
    assert report["split"] == 0
    assert report["truncated"] == 2
    assert report["dropped"] == {
        "empty": 1,
        "no assistant message": 1,
        "no token to learn within the sequence length": 1,
    }
    dropping = Settings(100, validation=0, long="drop")
    report = prepare([path], smollm2, dropping, tmp_path / "out")
    assert report["dropped"]["longer than the sequence length"] == 2
    assert report["train"]["documents"] == 1


def test_text_is_split_and_every_token_learned_once(tmp_path, smollm2):
    text = "hello there, how are you doing today? " * 40
    path = tmp_path / "book.txt"
    path.write_text(text)
    report = prepare([path], smollm2, Settings(50, validation=0), tmp_path / "out")
    labels = learned(tmp_path / "out/train.ptd")
    assert labels == [*smollm2(text)["input_ids"][1:], smollm2.eos_token_id]
    assert report["split"] == 1 and report["train"]["labelled"] == len(labels)
    assert "validation" not in report


def test_prompt_and_completion_with_and_without_template(tmp_path, smollm2):
    path = write_lines(tmp_path / "p.jsonl", [{"prompt": "hello", "completion": " there"}])
    prepare([path], smollm2, Settings(64), tmp_path / "chat")
    assert replies(tmp_path / "chat/train.ptd", smollm2) == [" there<|im_end|>"]
    first = read_rows(tmp_path / "chat/train.ptd").tokens[0]
    assert smollm2.decode(first).startswith("<|im_start|>system")
    prepare([path], smollm2, Settings(64, template=False), tmp_path / "raw")
    rows = read_rows(tmp_path / "raw/train.ptd")
    assert replies(tmp_path / "raw/train.ptd", smollm2) == [" there<|im_end|>"]
    assert smollm2.decode(rows.tokens[0]).startswith("hello there")


def test_loss_on_all_tokens(tmp_path, smollm2):
    path = write_lines(tmp_path / "c.jsonl", [chat("hello", "fine")])
    report = prepare([path], smollm2, Settings(64, loss="all"), tmp_path / "out")
    assert report["train"]["labelled"] == report["train"]["tokens"]


def test_nothing_left_is_an_error_and_leaves_no_directory(tmp_path, smollm2):
    path = write_lines(tmp_path / "c.jsonl", [chat("nobody answers")])
    with pytest.raises(ToolkitError, match=r"nothing to train on .*1 no assistant message"):
        prepare([path], smollm2, Settings(64), tmp_path / "out")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ToolkitError, match="no documents in"):
        prepare([tmp_path / "empty.jsonl"], smollm2, Settings(64), tmp_path / "out")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["c.jsonl", "empty.jsonl"]


def test_only_data_sets_are_replaced(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/thesis.txt").write_text("years of work")
    for name in ("docs", "docs/thesis.txt"):
        with pytest.raises(ToolkitError, match="is not a data set"):
            prepare_random(1, 4, 10, 0, tmp_path / name)
    assert (tmp_path / "docs/thesis.txt").read_text() == "years of work"
    prepare_random(1, 4, 10, 0, tmp_path / "data")
    prepare_random(2, 4, 10, 0, tmp_path / "data")
    assert read_rows(tmp_path / "data/train.ptd").tokens.shape == (2, 4)


def learned(path: Path) -> list[int]:
    return [int(token) for token in read_rows(path).labels.ravel() if token != IGNORED]


@pytest.mark.parametrize(("books", "share"), [(1, 0.05), (2, 0.05), (2, 0.3), (3, 0.9)])
def test_books_give_stretches_of_the_share_that_was_asked_for(tmp_path, smollm2, books, share):
    """No label is in both parts, every one is in one of them, and what is held out is connected."""
    paths, texts = [], []
    for number in range(books):
        words = [f"{(i * 7919 + number * 104729) % 99991}" for i in range(900 * (number + 1))]
        texts.append(" ".join(words))
        paths.append(tmp_path / f"{number}.txt")
        paths[-1].write_text(texts[-1])
    report = prepare(paths, smollm2, Settings(64, pack=False, validation=share), tmp_path / "out")
    tokens = {part: report[part]["tokens"] for part in ("train", "validation")}
    assert abs(tokens["validation"] - share * sum(tokens.values())) <= 64
    assert report["held_out"] == tokens["validation"] / sum(tokens.values())
    train, held = (learned(tmp_path / f"out/{part}.ptd") for part in ("train", "validation"))
    streams = [[*smollm2(text)["input_ids"][1:], smollm2.eos_token_id] for text in texts]
    assert sorted(train + held) == sorted(itertools.chain(*streams))
    pieces = [p[p != IGNORED].tolist() for p in read_rows(tmp_path / "out/validation.ptd").labels]
    for stream in streams:  # a book's held-out rows follow each other in it
        own, at = [], []
        for start in range(0, len(stream), 64):
            if stream[start : start + 64] in pieces:
                own.append(pieces.index(stream[start : start + 64]))
                at.append(start // 64)
        assert own and at == list(range(at[0], at[0] + len(at)))


def test_plain_text_has_a_validation_part_by_default(tmp_path, smollm2):
    (tmp_path / "book.txt").write_text("hello there, how are you doing today? " * 40)
    report = prepare([tmp_path / "book.txt"], smollm2, Settings(50), tmp_path / "out")
    assert report["validation"]["sequences"] == 1
    assert (tmp_path / "out/validation.ptd").is_file()


def test_halves_of_characters_are_replaced_and_counted(tmp_path, smollm2):
    path = tmp_path / "s.jsonl"
    lines = ['{"text": "half \\ud83d emoji"}', '{"text": "whole \\ud83d\\ude00 one"}']
    path.write_text("\n".join(lines) + "\n")
    report = prepare([path], smollm2, Settings(64, validation=0), tmp_path / "out")
    assert report["repaired"] == 1
    text = smollm2.decode(read_rows(tmp_path / "out/train.ptd").tokens[0])
    assert "half \ufffd emoji" in text and "whole \U0001f600 one" in text


def test_random_tokens(tmp_path):
    report = prepare_random(3, 16, 150, 7, tmp_path / "out")
    assert report["train"] == {"documents": 3, "sequences": 3, "tokens": 48, "labelled": 48}
    rows = read_rows(tmp_path / "out/train.ptd")
    assert (rows.tokens[:, 1:] == rows.labels[:, :-1]).all()
    assert (rows.positions == np.arange(16)).all() and (rows.start == 0).all()
    many = random_rows(100, 100, 150, 7).tokens
    assert many.min() == 0 and many.max() == 149
    counts = np.bincount(many.ravel(), minlength=150)
    # 10,000 draws: every count lies within six standard deviations of 10,000 / 150.
    assert abs(counts - 10000 / 150).max() < 6 * (10000 / 150) ** 0.5


def test_splitmix64_known_values_and_both_forms_agree():
    # First outputs for seed 1234567, as in the generator's published test vectors.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert splitmix64(1234567, 3).tolist() == expected
    for seed in (0, 1, 2**64 - 1):
        generator = SplitMix64(seed)
        assert splitmix64(seed, 50).tolist() == [generator.next() for _ in range(50)]


def test_settings_are_checked():
    for wrong in ({"seq_len": 0}, {"loss": "x"}, {"long": "x"}, {"validation": 1.0}, {"form": "x"}):
        with pytest.raises(ToolkitError):
            Settings(**{"seq_len": 8, **wrong})


WHATSAPP = "31.12.20, 22:15 - Ann: hello there\n31.12.20, 22:16 - Bob: hi, how are you\n" * 3


@pytest.mark.parametrize("form", ["auto", "text", "whatsapp"])
@pytest.mark.parametrize(
    ("name", "suffix"),
    [("WhatsApp Chat with Ann Smith.txt", ".txt"), ("Ann.Smith", ""), ("_chat.TXT", ".txt")],
)
def test_names_of_people_in_names_of_files_stay_here(tmp_path, smollm2, form, name, suffix):
    (tmp_path / name).write_text(WHATSAPP, encoding="utf-8")
    (tmp_path / "book.txt").write_text("It was a dark and stormy night.", encoding="utf-8")
    paths = [tmp_path / name] if form == "whatsapp" else [tmp_path / name, tmp_path / "book.txt"]
    me = None if form == "text" else "Bob"
    prepare(paths, smollm2, Settings(64, form=form, me=me), tmp_path / "out")
    content = (tmp_path / "out/data.json").read_text()
    first, *others = json.loads(content)["sources"]
    assert first["name"] == first["sha256"][:12] + suffix
    assert first["sha256"] == hashlib.sha256(WHATSAPP.encode()).hexdigest()
    assert [other["name"] for other in others] == ["book.txt"] * (len(paths) - 1)
    assert "Ann" not in content and "_chat" not in content
