"""Exported chats to documents: whose messages are learned, and where a conversation begins."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from toolkit.data.documents import Document
from toolkit.errors import ToolkitError

PAUSE = timedelta(hours=6)
"""After so long a silence the next message begins a conversation."""
_NAMED = 10  # speakers in a message of error


@dataclass(frozen=True)
class Message:
    """What somebody wrote: where in the file, when (local time), who, what."""

    where: str
    at: datetime
    speaker: str
    text: str


ReadChats = Callable[[Path, bytes], list[list[Message]]]
"""Returns the messages of every chat of an export, in order."""


def documents(path: Path, chats: Sequence[list[Message]], me: str | None) -> Iterator[Document]:
    """Yield a document for every conversation.

    The messages of `me` become the assistant's, all others the user's; several in a row are one,
    a line each. Where a chat has more than one other speaker, their lines begin with their names.
    Messages of `me` that nothing precedes in their conversation answer nothing and are left out.

    Raises:
        ToolkitError: Nobody is called so, or `me` is None; names those who speak.
    """
    speakers = Counter(message.speaker for chat in chats for message in chat)
    if me is None or me not in speakers:
        found = ", ".join(f"{name} ({count})" for name, count in speakers.most_common(_NAMED))
        more = f" and {len(speakers) - _NAMED} more" if len(speakers) > _NAMED else ""
        said = f"nobody is called {me!r}" if me else "whose messages are to be learned"
        raise ToolkitError(
            f"{path} is a chat: {said}? Messages are of {found or 'nobody'}{more}",
            "Say who you are with --me NAME, or learn it as it is with --format text",
        )
    for chat in chats:
        others = {message.speaker for message in chat} - {me}
        for conversation in _conversations(chat):
            turns = _turns(conversation, me, named=len(others) > 1)
            if turns:
                yield Document(source=conversation[0].where, messages=turns)


def _conversations(chat: list[Message]) -> Iterator[list[Message]]:
    current: list[Message] = []
    for message in chat:
        if current and message.at - current[-1].at >= PAUSE:
            yield current
            current = []
        current.append(message)
    if current:
        yield current


def _turns(conversation: list[Message], me: str, *, named: bool) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    for message in conversation:
        role = "assistant" if message.speaker == me else "user"
        named_text = f"{message.speaker}: {message.text}"
        text = named_text if named and role == "user" else message.text
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n{text}"
        elif turns or role == "user":
            turns.append({"role": role, "content": text})
    return turns
