"""`toolkit evaluate --tasks` on this machine as a device, against `transformers`."""

import functools
import json
import shutil

import pytest
import torch

import toolkit as toolkit_package
from tests.cli.talking import CONTEXT, greedy, rendered
from tests.cli.test_data import toolkit
from toolkit.bundle.bundle import Bundle
from toolkit.device.generating import Generation
from toolkit.errors import ToolkitWarning

pytestmark = pytest.mark.usefixtures("own_home")
TASKS = [
    {"prompt": "hello", "choices": [" there", "the", "you are fine"], "answer": 0},
    {"prompt": "how are", "choices": ["東京", "the assistant"], "answer": 1, "id": "b"},
    {"prompt": "hello", "answer": "?"},
]


def log_probability(model, prompt: list[int], ending: list[int]) -> float:
    """Return that of tokens behind others."""
    with torch.no_grad():
        found = model(torch.tensor([prompt + ending])).logits[0].log_softmax(-1)
    rows = range(len(prompt) - 1, len(prompt) + len(ending) - 1)
    return float(sum(found[row, token] for row, token in zip(rows, ending, strict=True)))


@pytest.mark.parametrize("template", [True, False])
def test_tasks_are_judged_as_transformers_does_with_and_without_adapter(made, tmp_path, template):
    bundle, adapter, without, with_adapter = made
    tokenizer = Bundle.open(bundle).tokenizer()

    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def prompt_of(task) -> list[int]:
        if template:
            return rendered(bundle, [{"role": "user", "content": task["prompt"]}])
        return tokens(task["prompt"])

    ends = {tokenizer.eos_token_id}
    reply = greedy(with_adapter, prompt_of(TASKS[2]), ends, 5)
    answer = tokenizer.decode(reply, skip_special_tokens=True)
    tasks = [*TASKS[:2], {**TASKS[2], "answer": ["?", answer.upper()]}]
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    words = ("evaluate", bundle, "--adapter", adapter, "--tasks", path, "--max-tokens", 5)
    words += () if template else ("--no-template",)
    report = json.loads(toolkit(*words, "--json").stdout)
    for name, model in (("without_adapter", without), ("with_adapter", with_adapter)):
        outcomes = report[name]["outcomes"]
        assert [one["line"] for one in outcomes] == [1, 2, 3] and outcomes[1]["id"] == "b"
        for task, outcome in zip(tasks[:2], outcomes, strict=False):
            choices = task["choices"]
            found = [log_probability(model, prompt_of(task), tokens(one)) for one in choices]
            assert outcome["log_probabilities"] == pytest.approx(found, abs=1e-4)
            each = [value / len(one.encode()) for value, one in zip(found, choices, strict=True)]
            right = 0 if task is tasks[0] else 1
            assert outcome["correct"] == (max(found) == found[right])
            assert outcome["correct_normalized"] == (max(each) == each[right])
        right = sum(one["correct"] for one in outcomes[:2])
        assert report[name]["choices"]["tasks"] == 2
        assert report[name]["choices"]["correct"] == right
    last = report["with_adapter"]["outcomes"][2]
    assert last["reply"] == answer
    assert last["reason"] == ("length" if len(reply) == 5 else "stop")
    assert report["with_adapter"]["cut"] == (len(reply) == 5) and report["max_tokens"] == 5
    assert outcomes[0]["reason"] is None
    assert report["template"] == ("bundle" if template else None)
    assert (last["correct"], last["correct_normalized"]) == (answer == answer.upper(), True)
    assert report["with_adapter"]["replies"] == {
        "tasks": 1,
        "correct": int(last["correct"]),
        "correct_normalized": 1,
    }


def test_choices_of_a_task_are_one_request_and_a_template_of_an_adapters_own_is_told(
    made, tmp_path, monkeypatch
):
    """Both models are asked by it, and the next command says all that was said."""
    bundle, adapter, *_ = made
    sent = []
    real = Generation._send
    monkeypatch.setattr(
        Generation, "_send", lambda self, *lines: (sent.append(lines), real(self, *lines))[1]
    )
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    own = shutil.copytree(adapter, tmp_path / "own")
    (own / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    )
    words = ("evaluate", bundle, "--tasks", path)
    result = toolkit(*words, "--adapter", own, "--max-samples", 2)
    assert "all prompts were put into the adapter's own chat template\n" in result.stderr
    counts = [sum(line.startswith("score ") for line in lines) for lines in sent]
    assert counts == [3, 2, 3, 2]
    result = toolkit(*words, "--max-samples", 1, "--max-tokens", 3, "--no-template")
    small = functools.partial(toolkit_package.open_talker, context=96)
    monkeypatch.setattr("toolkit.api.tasks.open_talker", small)
    with pytest.warns(ToolkitWarning, match="of --max-tokens 90 in the context of 96") as told:
        toolkit("evaluate", bundle, "--adapter", adapter, "--tasks", path, "--max-tokens", 90)
    assert len(told) == 1
    again = f"--tasks {path} --max-tokens 3 --max-samples 1 --no-template --device local"
    assert result.stderr.endswith(f"next: toolkit evaluate {bundle} {again} --adapter runs/RUN\n")


def test_tasks_are_judged_in_fixed16(made, tmp_path):
    """Close to float32, but not the same."""
    bundle = made[0]
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in TASKS[:2]))

    def judged(*words: str) -> list[float]:
        result = toolkit("evaluate", bundle, "--tasks", path, "--json", *words)
        outcomes = json.loads(result.stdout)["without_adapter"]["outcomes"]
        return [value for one in outcomes for value in one["log_probabilities"]]

    usual, found = judged(), judged("--arithmetic", "fixed16")
    assert found != usual and found == pytest.approx(usual, abs=1e-3)
    shown = toolkit("evaluate", bundle, "--tasks", path, "--arithmetic", "fixed16")
    assert f"--tasks {path} --arithmetic fixed16 --device local" in shown.stderr


def test_tasks_are_told_in_a_table_and_mistakes_by_line(made, tmp_path):
    bundle, adapter, *_ = made
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    result = toolkit("evaluate", bundle, "--tasks", path, "--max-samples", 2)
    assert "choices: most probable for their bytes" in result.stdout
    assert "replies" not in result.stdout and " of 2 (" in result.stdout
    assert "without adapter: 2 of 2 tasks" in result.stderr
    said = f"next: toolkit evaluate {bundle} --tasks {path} --max-samples 2 --device local"
    assert f"{said} --adapter runs/RUN\n" in result.stderr
    result = toolkit("evaluate", bundle, "--tasks", path, "--adapter", adapter)
    assert "replies: but for case and punctuation" in result.stdout
    cut = "1 of 1 replies were cut at --max-tokens 1 or where the context is full"
    error = toolkit("evaluate", bundle, "--tasks", path, "--max-tokens", 1).stderr
    assert f"without adapter: {cut}, and compared as they are\n" in error
    assert result.stdout.endswith(f"\nadapter: {adapter}\n")
    long = {"prompt": "hello " * CONTEXT, "answer": "a"}
    chat = {"messages": [{"role": "user", "content": "a"}], "answer": "a"}
    path.write_text(json.dumps(chat) + "\n" + json.dumps(long))
    error = toolkit("evaluate", bundle, "--tasks", path, code=1).stderr
    assert (
        "tasks.jsonl:2: " in error and f"do not fit into the model's context of {CONTEXT}" in error
    )
    error = toolkit("evaluate", bundle, "--tasks", path, "--no-template", code=1).stderr
    assert "tasks.jsonl:1: messages need a chat template. Leave --no-template away" in error
    home = tmp_path / "home"
    assert list(home.rglob("base.ptd"))
    shutil.rmtree(home)
    spoilt = shutil.copytree(adapter, tmp_path / "strict")
    strict = "{% if messages|length > 1 %}{{ raise_exception('Only one message') }}{% endif %}"
    strict += "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (spoilt / "chat_template.jinja").write_text(strict)
    two = {"messages": [{"role": "system", "content": "b"}, *chat["messages"]], "answer": "a"}
    path.write_text(json.dumps(chat) + "\n" + json.dumps(two))
    error = toolkit("evaluate", bundle, "--tasks", path, "--adapter", spoilt, code=1).stderr
    assert "tasks.jsonl:2: " in error and "Only one message" in error
    assert "tasks.jsonl:1" not in error
    assert not list(home.rglob("base.ptd"))  # nothing was sent
    for words in ((), ("--tasks", path, "--data", "d"), ("--tasks", path, "--split", "train")):
        toolkit("evaluate", bundle, *words, code=2)
    toolkit("evaluate", bundle, "--data", "d", "--max-tokens", 3, code=2)
