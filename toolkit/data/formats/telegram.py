"""result.json as Telegram Desktop exports it: one chat, or all of an account."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from toolkit.data.formats.conversations import Message
from toolkit.data.formats.plain import decode
from toolkit.data.formats.sniffing import Sample
from toolkit.data.formats.surrogates import repair
from toolkit.errors import ToolkitError

_CHAT = re.compile(
    r'"type"\s*:\s*"(personal_chat|bot_chat|saved_messages|(private|public)_(group|supergroup|'
    r'channel))"\s*,\s*"id"\s*:\s*-?\d+\s*,\s*"messages"'
)
_ACCOUNT = re.compile(r'\s*\{\s*"about"\s*:\s*"[^"]*Telegram')


def recognize(sample: Sample) -> str:
    """Return what it is, by the keys that such a file begins with."""
    start = sample.data.decode("utf-8-sig", errors="replace")
    if sample.start.lstrip().startswith("{") and (_ACCOUNT.match(start) or _CHAT.search(start)):
        return "a Telegram export"
    return ""


def read(path: Path, data: bytes) -> list[list[Message]]:
    """Return the messages of every chat; see `conversations.ReadChats`.

    Left out is what has no text, was forwarded, or was written by an account that is gone.

    Raises:
        ToolkitError: It is no such file, or a message lacks something.
    """
    try:
        export = json.loads(decode(path, data))
    except json.JSONDecodeError as error:
        raise ToolkitError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise ToolkitError(f"{path}: JSON that is nested too deeply") from error
    try:
        chats = export["chats"]["list"] if "chats" in export else [export]
        if "left_chats" in export:
            chats = [*chats, *export["left_chats"]["list"]]
        return [list(_messages(path, chat)) for chat in chats]
    except (KeyError, TypeError, AttributeError) as error:
        raise ToolkitError(
            f"{path} is not as Telegram exports it ({type(error).__name__}: {error})",
            "Export the chat again in Telegram Desktop, as machine-readable JSON",
        ) from error


def _messages(path: Path, chat: dict[str, Any]) -> Iterator[Message]:
    for entry in chat["messages"]:
        if entry["type"] != "message" or "forwarded_from" in entry or not entry.get("from"):
            continue
        name, title = entry["from"], repair(chat.get("name") or chat["type"])[0]
        where = f"{path}[{title}, message {entry['id']}]"
        text = _text(entry["text"]).strip()
        if text:
            speaker = str(entry.get("from_id", name))  # exports of 2020 and before have only names
            yield Message(where, _time(entry["date"], where), speaker, name, text)


def _text(value: Any) -> str:
    """Return a text, which may be a list of strings and of entities such as links."""
    if isinstance(value, str):
        return value
    return "".join(part if isinstance(part, str) else part["text"] for part in value)


def _time(value: str, where: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise ToolkitError(f"{where}: {value!r} is no date") from error
