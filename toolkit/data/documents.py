"""Read documents from text files and JSON Lines; a bad line is an error with file and number."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError

_JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
_FORMATS = "{text}, {prompt, completion} or {messages}"


@dataclass(frozen=True)
class Document:
    """One document: either `text`, or `prompt` and `completion`, or `messages` (a chat).

    Attributes:
        source: Where it came from, "file" or "file:line", for error messages.
    """

    source: str
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[Any] | None = field(default=None)

    def content(self) -> str:
        """Return the content as canonical JSON, independent of where the document came from."""
        parts = [self.text, self.prompt, self.completion, self.messages, self.tools]
        return json.dumps(parts, sort_keys=True, ensure_ascii=True)


def read_documents(paths: list[Path]) -> Iterator[Document]:
    """Yield the documents of all files in order.

    A file ending in .jsonl, .ndjson or .json holds one JSON object per line; any other file is
    one text document.

    Raises:
        ToolkitError: A file is missing, not UTF-8, or has a line that is not a known format.
    """
    for path in paths:
        if path.is_dir():
            raise ToolkitError(f"{path} is a directory", "Name the files in it")
        if path.suffix.lower() in _JSON_SUFFIXES:
            yield from _read_json_lines(path)
        else:
            yield Document(source=str(path), text=_read_text(path))


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ToolkitError(
            f"{path} is not UTF-8 text (byte {error.start})", "Convert it to UTF-8"
        ) from error
    except OSError as error:
        raise ToolkitError(f"cannot read {path}: {error.strerror}") from error


def _read_json_lines(path: Path) -> Iterator[Document]:
    # Only "\n" ends a line: str.splitlines would also cut at U+2028, which JSON strings may hold.
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ToolkitError(
                f"{where}: not valid JSON: {error.msg} (column {error.colno})",
                f"Every line must be one object with {_FORMATS}",
            ) from error
        yield _document(record, where)


def _document(record: Any, where: str) -> Document:
    if not isinstance(record, dict):
        raise ToolkitError(
            f"{where}: a JSON {_kind(record)} instead of an object",
            f"Every line must be one object with {_FORMATS}",
        )
    if "messages" in record:
        messages = _messages(record["messages"], where)
        return Document(source=where, messages=messages, tools=record.get("tools"))
    if "prompt" in record and "completion" in record:
        return _prompt_completion(record, where)
    if "text" in record:
        return Document(source=where, text=_string(record["text"], "text", where))
    found = ", ".join(map(repr, sorted(record))) or "no keys"
    raise ToolkitError(f"{where}: found {found}", f"A line needs {_FORMATS}")


def _prompt_completion(record: dict[str, Any], where: str) -> Document:
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        messages = _messages(prompt, where) + _messages(completion, where)
        return Document(source=where, messages=messages, tools=record.get("tools"))
    return Document(
        source=where,
        prompt=_string(prompt, "prompt", where),
        completion=_string(completion, "completion", where),
    )


def _messages(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise ToolkitError(f"{where}: messages is a {_kind(value)}, not a list")
    return [_message(message, index, where) for index, message in enumerate(value)]


def _message(message: Any, index: int, where: str) -> dict[str, Any]:
    name = f"messages[{index}]"
    if not isinstance(message, dict):
        raise ToolkitError(f"{where}: {name} is a {_kind(message)}, not an object")
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise ToolkitError(f"{where}: {name} has no role")
    content = message.get("content")
    if isinstance(content, list):
        content = _joined_parts(content, name, where)
    if content is None and message.get("tool_calls"):
        content = ""
    return {**message, "content": _string(content, f"{name}.content", where)}


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
