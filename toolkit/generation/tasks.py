"""Tasks of a user's own, one JSON object a line: choices to rank, and replies to compare.

    {"prompt": "2 + 2 =", "choices": ["3", "4"], "answer": 1}
    {"prompt": "Capital of France?", "answer": ["Paris", "It is Paris"]}

`answer` is the right choice or its place from 0 on, or without `choices` the reply that is right,
or a list of those. `messages` may stand for `prompt`: a chat that ends with what is replied to.
`id` is given back in reports.
"""

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.data.chat import Messages
from toolkit.errors import ToolkitError

_FIELDS = ("prompt", "messages", "choices", "answer", "id")
_SHOWN = 3  # errors of a file
_CORRECT = "Correct the file; `toolkit evaluate -h` says what a line is"
_THOUGHT = ("<think>", "</think>")
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Task:
    """What a model is asked, and what is right.

    Attributes:
        line: In the file, from 1 on.
        id: That the file gives it, or None.
        prompt: A text, or the messages of a chat.
        choices: To rank; () where a reply is made.
        answers: Replies that are right; of choices the one that is.
    """

    line: int
    id: str | int | None
    prompt: str | Messages
    choices: tuple[str, ...]
    answers: tuple[str, ...]

    def is_same(self, reply: str) -> bool:
        """Tell whether a reply is right to the letter, white space around it aside."""
        return _said(reply).strip() in {answer.strip() for answer in self.answers}

    def is_similar(self, reply: str) -> bool:
        """Tell whether it is but for case, white space and punctuation around it."""
        return _bare(_said(reply)) in set(map(_bare, self.answers))


def read_tasks(path: Path) -> list[Task]:
    """Read a file of tasks.

    Raises:
        ToolkitError: It cannot be read or has no task; or lines are none, which are named.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ToolkitError(f"{path} is not UTF-8 text", "Give JSON Lines") from error
    tasks, wrong = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            tasks.append(_task(number, line))
        except _Wrong as error:
            wrong.append((number, str(error)))
    refuse_lines(path, wrong)
    if not tasks:
        raise ToolkitError(f"{path} has no task", 'A line is {"prompt": "..", "answer": ".."}')
    return tasks


def refuse_lines(path: Path, wrong: Iterable[tuple[int, str]], remedy: str = _CORRECT) -> None:
    """Raise an error that names lines and what is wrong with each, if there are any."""
    found = [f"{path}:{line}: {why}" for line, why in wrong]
    if len(found) > _SHOWN:
        found = [*found[:_SHOWN], f"and {len(found) - _SHOWN} more lines"]
    if found:
        raise ToolkitError("; ".join(found), remedy)


class _Wrong(Exception):
    """A line is no task; the message says why."""


def _task(number: int, line: str) -> Task:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise _Wrong("not a JSON object")
    unknown = next((name for name in row if name not in _FIELDS), None)
    if unknown is not None:
        raise _Wrong(f"{unknown!r} is none of {', '.join(_FIELDS)}")
    choices = _choices(row["choices"]) if "choices" in row else ()
    if "answer" not in row:
        raise _Wrong("there is no answer")
    answers = (_right(choices, row["answer"]),) if choices else _answers(row["answer"])
    name = row.get("id")
    if not (name is None or isinstance(name, str | int)):
        raise _Wrong("id is neither text nor a number")
    return Task(number, name, _prompt(row), choices, answers)


def _prompt(row: dict[str, Any]) -> str | Messages:
    if ("prompt" in row) == ("messages" in row):
        raise _Wrong("there is not one of prompt and messages")
    if "prompt" in row:
        return _text(row["prompt"], "prompt")
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise _Wrong("messages is no list of messages")
    for message in messages:
        known = isinstance(message, dict) and message.get("role") in _ROLES
        if not known or not isinstance(message.get("content"), str):
            raise _Wrong('a message is no {"role": "user", "content": ".."}')
    if messages[-1]["role"] == "assistant":
        raise _Wrong("the last message is the assistant's, so nothing is asked")
    return list(messages)


def _choices(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < 2:
        raise _Wrong("choices is no list of two or more")
    choices = tuple(_text(choice, "a choice") for choice in value)
    if len(set(choices)) < len(choices):
        raise _Wrong("a choice is there twice")
    return choices


def _right(choices: tuple[str, ...], answer: Any) -> str:
    if isinstance(answer, str):
        if answer not in choices:
            raise _Wrong(f"the answer {answer!r} is none of the choices")
        return answer
    if isinstance(answer, bool) or not isinstance(answer, int):
        raise _Wrong("the answer is neither a choice nor its place")
    if not 0 <= answer < len(choices):
        raise _Wrong(f"there is no choice {answer}: they are counted from 0 to {len(choices) - 1}")
    return choices[answer]


def _answers(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise _Wrong("there is no answer")
    return tuple(_text(answer, "an answer") for answer in values)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"{name} is no text")
    if not value.strip():
        raise _Wrong(f"{name} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Wrong(f"{name} has half a character") from error
    return value


def _said(reply: str) -> str:
    """Leave out what a model thinks before it replies; a thought without an end has no reply."""
    _, thought, said = reply.rpartition(_THOUGHT[1])
    if thought:
        return said
    return "" if reply.lstrip().startswith(_THOUGHT[0]) else reply


def _bare(text: str) -> str:
    words = " ".join(text.casefold().split())
    begin, end = 0, len(words)
    while begin < end and _is_around(words[begin]):
        begin += 1
    while end > begin and _is_around(words[end - 1]):
        end -= 1
    return words[begin:end]


def _is_around(character: str) -> bool:
    return character.isspace() or unicodedata.category(character).startswith("P")
