"""Exported chats to documents: whose messages are learned, and where a conversation begins."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from toolkit.data.documents import Document
from toolkit.data.formats.surrogates import repair
from toolkit.errors import ToolkitError

PAUSE = timedelta(hours=6)
"""After so long a silence the next message begins a conversation."""
_NAMED = 10  # speakers in a message of error


@dataclass(frozen=True)
class Message:
    """What somebody wrote.

    Attributes:
        where: Place in the file, for messages of error.
        at: When; local time where it has no time zone.
        speaker: Who, by what tells people apart; two may have one name.
        name: What the speaker is called.
        text: What was written.
    """

    where: str
    at: datetime
    speaker: str
    name: str
    text: str


ReadChats = Callable[[Path, bytes], list[list[Message]]]
"""Returns the messages of every chat of an export, in order."""


def documents(path: Path, chats: Sequence[list[Message]], me: str | None) -> Iterator[Document]:
    """Yield a document for every conversation.

    The messages of `me` become the assistant's, all others the user's; several in a row are one,
    a line each. Where a chat has more than one other speaker, their lines begin with their names.
    Messages of `me` that nothing precedes in their conversation answer nothing and are left out.

    Raises:
        ToolkitError: Nobody is called so, several are, or `me` is None; names those who speak.
    """
    own = _speaker(path, chats, me)
    for chat in chats:
        others = {message.speaker for message in chat} - {own}
        for conversation in _conversations(chat):
            turns, repaired = repair(_turns(conversation, own, named=len(others) > 1))
            if turns:
                source = conversation[0].where
                yield Document(source=source, messages=turns, repaired=repaired)


def _speaker(path: Path, chats: Sequence[list[Message]], me: str | None) -> str:
    """Return the one speaker who is called `me`, or whom `me` tells apart."""
    messages = [message for chat in chats for message in chat]
    called = {message.speaker: message.name for message in messages}
    if me in called:
        return me
    found = {message.speaker for message in messages if me in (message.name, _plain(message.name))}
    if len(found) == 1:
        return found.pop()
    counts = Counter(message.speaker for message in messages).most_common()
    listed = [(speaker, count) for speaker, count in counts if not found or speaker in found]
    shared = {name for name, people in Counter(called.values()).items() if people > 1}
    people = ", ".join(
        f"{_shown(called[speaker], speaker, shared)} ({count})"
        for speaker, count in listed[:_NAMED]
    )
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    said = f"nobody is called {me!r}" if me else "whose messages are to be learned"
    said = f"who of them is {me!r}" if found else said
    raise ToolkitError(
        f"{path} is a chat: {said}? Messages are of {people or 'nobody'}{more}",
        "Say who you are with --me NAME"
        + (", or by what stands in brackets" if shared else "")
        + ", or learn it as it is with --format text",
    )


def _shown(name: str, speaker: str, shared: Collection[str]) -> str:
    """Return a name, with what tells people apart where several have it."""
    return _plain(f"{name} [{speaker}]" if name in shared else name)


def _plain(name: str) -> str:
    return str(repair(name)[0])


def _conversations(chat: list[Message]) -> Iterator[list[Message]]:
    current: list[Message] = []
    for message in chat:
        if current and _silence(current[-1].at, message.at) >= PAUSE:
            yield current
            current = []
        current.append(message)
    if current:
        yield current


def _silence(before: datetime, after: datetime) -> timedelta:
    """Return what passed between two times; by the clock on the wall where one has no zone."""
    if (before.tzinfo is None) != (after.tzinfo is None):
        before, after = before.replace(tzinfo=None), after.replace(tzinfo=None)
    return after - before


def _turns(conversation: list[Message], me: str, *, named: bool) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    for message in conversation:
        role = "assistant" if message.speaker == me else "user"
        named_text = f"{message.name}: {message.text}"
        text = named_text if named and role == "user" else message.text
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n{text}"
        elif turns or role == "user":
            turns.append({"role": role, "content": text})
    return turns
