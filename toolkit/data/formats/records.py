"""One JSON record to one document, by the names of its fields.

{text}
{prompt, completion}, and the same under other names (`_PAIRS`)
{instruction, input?, output}                    as Alpaca has it
{question, context?, answer}                     as sets of questions on a text have it
{messages: [{role, content}, ...], tools?}       as chat templates take it
{conversations: [{from, value}, ...], system?}   as ShareGPT has it
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from toolkit.data.documents import Document
from toolkit.data.formats.surrogates import repair
from toolkit.errors import ToolkitError

FORMATS = "{text}, {prompt, completion} or {messages}"
_NEEDS = f"A record needs {FORMATS}"
_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "response"),
    ("instruction", "output"),
    ("question", "answer"),
    ("input", "output"),
)
_CONTEXT = ("input", "context")
"""What an instruction may refer to; a question has only the second."""
ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "function",
    "ipython": "ipython",
}
"""Roles that chat templates know, by the names that data sets have for them."""
_FOREIGN = {
    frozenset({"chosen", "rejected"}): "preferences; keep the chosen answer",
    frozenset({"mapping", "title"}): "a ChatGPT export; take the turns out of `mapping`",
    frozenset({"cells", "nbformat"}): "a Jupyter notebook; export it as text",
    frozenset({"name", "type", "messages"}): "a Telegram export",
    frozenset({"chats", "about"}): "a Telegram export",
    frozenset({"participants", "messages"}): "a Facebook or Instagram export",
    frozenset({"guild", "channel", "messages"}): "a Discord export",
}
NESTED = frozenset({"messages", "conversations", "history", "tools"})
"""Fields that hold lists; a table's cells hold them as JSON."""
FIELDS = NESTED | {"text", "system", *_CONTEXT, *(name for pair in _PAIRS for name in pair)}


def row_of(record: Any, where: str) -> Document | ToolkitError:
    """Return what a row is: a document (see `document_of`), or what is wrong with it."""
    try:
        return document_of(record, where)
    except ToolkitError as error:
        return error


def document_of(record: Any, where: str) -> Document:
    """Return a record's document.

    Args:
        record: JSON value.
        where: File and line.

    Raises:
        ToolkitError: It is no record of a known kind; says why.
    """
    if not isinstance(record, dict):
        raise ToolkitError(
            f"{where}: a JSON {_kind(record)} instead of an object",
            f"Every line must be one object with {FORMATS}",
        )
    record, repaired = repair(record)
    document = _document(record, where)
    return replace(document, repaired=repaired) if repaired else document


def _document(record: dict[str, Any], where: str) -> Document:
    foreign = next((what for keys, what in _FOREIGN.items() if keys <= set(record)), None)
    if foreign is not None and not _has_roles(record.get("messages")):
        raise ToolkitError(
            f"{where}: this looks like {foreign}",
            'Make JSON Lines of it, {"messages": [{"role": ..., "content": ...}, ...]} a line',
        )
    if "messages" in record:
        messages = _messages(record["messages"], "messages", where)
        return Document(source=where, messages=messages, tools=record.get("tools"))
    if "conversations" in record:
        return _conversation(record, where)
    for question, answer in _PAIRS:
        if question in record and answer in record:
            return _pair(record, question, answer, where)
    if "text" in record:
        return Document(source=where, text=_string(record["text"], "text", where))
    found = ", ".join(map(repr, sorted(record))) or "no keys"
    lists = [k for k, v in record.items() if isinstance(v, list) and v and isinstance(v[0], dict)]
    hint = f"; '{lists[0]}' is a list: write its entries, one a line" if lists else ""
    raise ToolkitError(f"{where}: found {found}", _NEEDS + hint)


def _has_roles(messages: Any) -> bool:
    return isinstance(messages, list) and all(
        isinstance(message, dict) and "role" in message for message in messages[:1]
    )


def _conversation(record: dict[str, Any], where: str) -> Document:
    messages = _messages(record["conversations"], "conversations", where)
    system = record.get("system")
    if system:
        content = _string(system, "system", where)
        messages = [{"role": "system", "content": content}, *messages]
    return Document(source=where, messages=messages, tools=record.get("tools"))


def _pair(record: dict[str, Any], question: str, answer: str, where: str) -> Document:
    prompt, completion = record[question], record[answer]
    if isinstance(prompt, list) and isinstance(completion, list):
        messages = _messages(prompt, question, where) + _messages(completion, answer, where)
        return Document(source=where, messages=messages, tools=record.get("tools"))
    prompt = _string(prompt, question, where)
    completion = _string(completion, answer, where)
    prompt = _with_context(record, question, prompt, where)
    earlier = list(_history(record.get("history"), where))
    if not earlier and not record.get("system"):
        return Document(source=where, prompt=prompt, completion=completion)
    system = _string(record.get("system") or "", "system", where)
    messages = [{"role": "system", "content": system}] if system else []
    turns = [*earlier, (prompt, completion)]
    for asked, said in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return Document(source=where, messages=messages)


def _with_context(record: dict[str, Any], question: str, prompt: str, where: str) -> str:
    """Return what is asked with what it refers to: below an instruction, above a question."""
    names = _CONTEXT if question == "instruction" else _CONTEXT[1:]
    parts = [_string(record[name], name, where) for name in names if record.get(name)]
    order = (prompt, *parts) if question == "instruction" else (*parts, prompt)
    return "\n\n".join(part for part in order if part.strip()) if parts else prompt


def _history(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield the turns before an Alpaca record's own, as some data sets add them."""
    if value is None:
        return
    if not isinstance(value, list):
        raise ToolkitError(f"{where}: history is a {_kind(value)}, not a list")
    for turn in value:
        if not isinstance(turn, list) or len(turn) != 2:
            raise ToolkitError(f"{where}: history is not a list of pairs")
        asked, said = (_string(part, "history", where) for part in turn)
        yield asked, said


def _messages(value: Any, name: str, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise ToolkitError(f"{where}: {name} is a {_kind(value)}, not a list")
    return [_message(message, f"{name}[{i}]", where) for i, message in enumerate(value)]


def _message(message: Any, name: str, where: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ToolkitError(f"{where}: {name} is a {_kind(message)}, not an object")
    if "role" not in message and {"from", "value"} <= set(message):  # ShareGPT's names
        message = {"role": message["from"], "content": message.get("value")}
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise ToolkitError(f"{where}: {name} has no role")
    if role.lower() not in ROLES:
        raise ToolkitError(
            f"{where}: {name} has the role '{role}'",
            "Roles are system, user, assistant and tool; human, gpt, bot and model are known, too",
        )
    content = message.get("content")
    if isinstance(content, list):
        content = _joined_parts(content, name, where)
    if content is None and message.get("tool_calls"):
        content = ""
    content = _string(content, f"{name}.content", where)
    return {**message, "role": ROLES[role.lower()], "content": content}


def _joined_parts(parts: list[Any], name: str, where: str) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise ToolkitError(f"{where}: {name} has content that is not text")
        texts.append(_string(part.get("text"), f"{name}.content", where))
    return "".join(texts)


def _string(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise ToolkitError(f"{where}: {name} is a {_kind(value)}, not a string")
    return value


def _kind(value: Any) -> str:
    kinds = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
