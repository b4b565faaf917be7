"""`toolkit train` with the real trainer on this machine, from data to an adapter and on from it."""

import json

import pytest
from typer.testing import CliRunner

from tests.support.bundles import export_with_tokenizer
from toolkit.cli.main import app


def toolkit(*words):
    """Run a command and return its records, or the object that it prints."""
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == 0, (words, result.output)
    return result


def evaluations(result):
    records = [json.loads(line) for line in result.stdout.splitlines()]
    return {r["step"]: r["loss"] for r in records if r["type"] == "evaluation"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_with_tokenizer(tmp_path_factory.mktemp("real") / "bundle")


@pytest.fixture
def data(bundle, tmp_path, monkeypatch):
    """Data with a fifth held out, on this machine with the bundle."""
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    text = tmp_path / "book.txt"
    text.write_text("".join(f"hello number {i}, how are you doing today\n" for i in range(60)))
    data = tmp_path / "data"
    toolkit("data", text, "--tokenizer", bundle, "-o", data, "--validation", 0.2)
    toolkit("deploy", bundle, "--data", data)
    return data


def test_held_out_data_is_evaluated_and_an_adapter_trained_on(bundle, data, tmp_path):
    words = ("train", "--lr", 0.01, "--eval-every", 2, "--out")
    first = toolkit(*words, "one", "--steps", 4)
    losses = evaluations(first)
    assert list(losses) == [0, 2, 4] and losses[4] < losses[2] < losses[0]
    toolkit("pull", "one", "-o", tmp_path / "one")
    for out, adapter in (("two", "one"), ("three", "one/adapter_model.safetensors")):
        second = toolkit(*words, out, "--steps", 2, "--adapter", tmp_path / adapter)
        assert evaluations(second)[0] == pytest.approx(losses[4], rel=1e-6)
        assert "note:" not in second.stderr
    held_out = toolkit("evaluate", bundle, "--data", data, "--adapter", tmp_path / "one")
    report = json.loads(held_out.stdout)
    assert report["with_adapter"]["loss"] == pytest.approx(losses[4], rel=1e-6)
    assert report["without_adapter"]["loss"] == pytest.approx(losses[0], rel=1e-6)
    weights = tmp_path / "one/adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    command = ["evaluate", bundle, "--data", data, "--adapter", tmp_path / "one"]
    refused = CliRunner().invoke(app, list(map(str, command)))
    assert refused.exit_code == 1 and f"{weights} is damaged" in refused.stderr


def test_held_out_loss_decides_what_comes_back(bundle, data, tmp_path):
    words = ("--lr", 0.05, "--eval-every", 1, "--keep", "best", "--keep-checkpoints", 2)
    result = toolkit("train", *words, "--save-every", 1, "--steps", 3, "--out", "one")
    losses = evaluations(result)
    best = min(losses, key=losses.get)
    pulled = json.loads(toolkit("pull", "one", "-o", tmp_path / "one").stdout)
    assert pulled["best_step"] == best
    folders = {step: tmp_path / f"one/checkpoints/step-{step}" for step in (2, 3)}
    assert sorted((tmp_path / "one/checkpoints").iterdir()) == list(folders.values())
    for folder, loss in ((tmp_path / "one", losses[best]), (folders[2], losses[2])):
        found = toolkit("evaluate", bundle, "--data", data, "--adapter", folder)
        assert json.loads(found.stdout)["with_adapter"]["loss"] == pytest.approx(loss, rel=1e-6)
    analysis = json.loads(toolkit("analyze", tmp_path / "one").stdout)
    assert analysis["training"]["kept_step"] == best and analysis["reason"] is None
    # Resumed without a rate, nothing comes that is better, and patience runs out.
    result = toolkit(
        "train", "--out", "one", "--resume", "--steps", 9, "--lr", 0, "--patience", 2 + 3 - best
    )
    end = json.loads(result.stdout.splitlines()[-1])
    assert (end["status"], end["steps"]) == ("completed", 5)
    assert end["reason"].startswith("the held-out loss was not below")
    assert f"it ended early: {end['reason']}" in " ".join(result.stderr.split())
    pulled = json.loads(toolkit("pull", "one", "-o", tmp_path / "one").stdout)
    assert pulled["best_step"] == best
    analysis = json.loads(toolkit("analyze", tmp_path / "one").stdout)
    assert analysis["reason"] == end["reason"]
    assert "ended-early" in [finding["code"] for finding in analysis["findings"]]


def test_an_adapter_comes_with_the_template_that_its_data_was_made_with(
    bundle, tmp_path, monkeypatch
):
    """Data of another template fits the bundle; a run of one does not go on with the other."""
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    template = tmp_path / "mine.jinja"
    template.write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>{% endfor %}"
    )
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(f'{{"prompt": "{i}", "completion": "a"}}\n' for i in range(4)))
    data = tmp_path / "data"
    words = ("data", chats, "--tokenizer", bundle, "-o", data, "--validation", 0)
    toolkit(*words, "--chat-template", template)
    toolkit("deploy", bundle, "--data", data)
    toolkit("train", "--out", "one", "--steps", 1)
    toolkit("pull", "one", "-o", tmp_path / "one")
    assert (tmp_path / "one/chat_template.jinja").read_bytes() == template.read_bytes()
    toolkit(*words)
    toolkit("deploy", bundle, "--data", data)
    resumed = CliRunner().invoke(app, ["train", "--out", "one", "--steps", "2", "--resume"])
    assert resumed.exit_code == 1 and "data 'data' on device local is not the one" in resumed.stderr
    toolkit("train", "--out", "two", "--steps", 1)
    toolkit("pull", "two", "-o", tmp_path / "two")
    assert not (tmp_path / "two/chat_template.jinja").exists()
