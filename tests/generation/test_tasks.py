"""Files of tasks: what a line may be, and which replies are right."""

import json

import pytest

from toolkit.errors import ToolkitError
from toolkit.generation.tasks import Task, read_tasks

CHOICE = {"prompt": "2 + 2 =", "choices": ["3", "4"], "answer": 1, "id": 7}
CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]


def written(path, rows) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines))


def test_tasks_are_read_with_their_lines(tmp_path):
    path = tmp_path / "tasks.jsonl"
    answers = {"prompt": "Capital?", "answer": ["Paris", "It is Paris"]}
    chat = {"messages": CHAT, "choices": ["a", "b"], "answer": "a", "id": "first"}
    written(path, [CHOICE, "", answers, chat])
    assert read_tasks(path) == [
        Task(1, 7, "2 + 2 =", ("3", "4"), ("4",)),
        Task(3, None, "Capital?", (), ("Paris", "It is Paris")),
        Task(4, "first", CHAT, ("a", "b"), ("a",)),
    ]


WRONG = {
    "{": "not JSON: ",
    "[1]": "not a JSON object",
    json.dumps({**CHOICE, "choises": []}): "'choises' is none of prompt, messages, choices",
    json.dumps({"prompt": "a"}): "there is no answer",
    json.dumps({"prompt": "a", "answer": []}): "there is no answer",
    json.dumps({"prompt": "a", "answer": 1}): "an answer is no text",
    json.dumps({"prompt": " ", "answer": "b"}): "prompt is empty",
    json.dumps({"answer": "b"}): "not one of prompt and messages",
    json.dumps({**CHOICE, "messages": CHAT}): "not one of prompt and messages",
    json.dumps({"messages": [{"role": "user"}], "answer": "b"}): "a message is no",
    json.dumps({"messages": [{"role": "assistant", "content": "a"}], "answer": "b"}): "is asked",
    json.dumps({**CHOICE, "answer": 2}): "there is no choice 2: they are counted from 0 to 1",
    json.dumps({**CHOICE, "answer": -1}): "there is no choice -1",
    json.dumps({**CHOICE, "answer": True}): "neither a choice nor its place",
    json.dumps({**CHOICE, "answer": "5"}): "the answer '5' is none of the choices",
    json.dumps({**CHOICE, "choices": ["4"]}): "no list of two or more",
    json.dumps({**CHOICE, "choices": ["4", "4"]}): "a choice is there twice",
    json.dumps({**CHOICE, "choices": ["4", ""]}): "a choice is empty",
    json.dumps({**CHOICE, "choices": ["4", "\ud800"]}): "a choice has half a character",
    "[" * 100_000: "not JSON",
    json.dumps({**CHOICE, "id": []}): "id is neither text nor a number",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_line_that_is_no_task_is_named(line, tmp_path):
    written(tmp_path / "tasks.jsonl", [CHOICE, line])
    with pytest.raises(ToolkitError) as error:
        read_tasks(tmp_path / "tasks.jsonl")
    assert error.value.cause.startswith(f"{tmp_path / 'tasks.jsonl'}:2: ")
    assert WRONG[line] in error.value.cause


def test_some_of_many_wrong_lines_are_named_and_a_file_of_none_is_refused(tmp_path):
    path = tmp_path / "tasks.jsonl"
    written(path, ["{}"] * 5)
    with pytest.raises(ToolkitError, match=r":1: there .*:3: there .*; and 2 more lines"):
        read_tasks(path)
    path.write_text("\n\n")
    with pytest.raises(ToolkitError, match="has no task"):
        read_tasks(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ToolkitError, match="is not UTF-8 text"):
        read_tasks(path)


def test_replies_are_compared_to_the_letter_and_but_for_case_and_punctuation():
    task = Task(1, None, "Capital?", (), ("Paris", "It's Paris."))
    same = {" Paris\n": True, "paris": False, "Paris.": False, "It's Paris.": True}
    similar = {"**paris**.": True, "\u201cIT'S  PARIS\u201d": True, "Paris, France": False}
    similar |= {"": False, "it s paris": False, "...": False}
    same |= {"<think>\n\n</think>\n\nParis": True, "<think>\nParis": False}
    assert {reply: task.is_same(reply) for reply in same} == same
    assert {reply: task.is_similar(reply) for reply in similar} == similar
