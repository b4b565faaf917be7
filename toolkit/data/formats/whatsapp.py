"""WhatsApp's exported chats, as Android and iOS write them in the formats of many languages.

12/31/20, 22:15 - Ann: text            [31.12.20, 22:15:01] Ann: text
31/12/2020 10:15 p. m. - Ann: text     [2020/12/31 下午10:15:01] Ann: text

A message goes on in the lines that follow. Lines without a speaker, and what begins with a
left-to-right mark, are WhatsApp's own.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from toolkit.data.formats.conversations import Message
from toolkit.data.formats.plain import decode
from toolkit.data.formats.sniffing import Sample
from toolkit.data.formats.whatsapp_texts import is_own, without_edited
from toolkit.errors import ToolkitError

_MORNING = "上午|午前|오전"
_EVENING = "下午|午後|오후"
_HEAD = re.compile(
    r"[\u200e\u200f]*(?P<bracket>\[)?(?P<date>\d{1,4}(?P<sep>[./-])\s?\d{1,2}(?P=sep)\s?\d{1,4})"
    rf"\.?,?\s+(?P<before>{_MORNING}|{_EVENING})?\s?"
    r"(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2}))?"
    r"(?:\s?(?P<after>[ap])\.?\s?m\.?)?(?(bracket)\]|\s-)\s(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_SPEAKER = re.compile(
    r"[\u200e\u200f\u202a]*(?P<name>[^:]{1,60}?)[\u202c]?:\s(?P<text>.*)", re.DOTALL
)
_CLOSING = {
    '"': '"',
    "\uff02": "\uff02",
    "\u201c": "\u201c\u201d",
    "\u201d": "\u201d",
    "\u201e": "\u201c\u201d",
    "\u201f": "\u201d",
    "\u2018": "\u2019",
    "\u201a": "\u2018\u2019",
    "«": "»",
    "»": "«",
    "\u2039": "\u203a",
    "\u203a": "\u2039",
    "「": "」",
    "『": "』",
}
"""What may end a quotation, by what begins it; U+2019 begins none, being an apostrophe, too."""
_FEWEST, _LIKELY = 2, 0.2  # lines that begin messages; others go on with them


def recognize(sample: Sample) -> str:
    """Return what it is, when the first line and enough others begin with date and time."""
    heads = sum(_HEAD.match(line) is not None for line in sample.lines)
    likely = heads >= _FEWEST and sample.share(heads) >= _LIKELY
    return "a WhatsApp export" if likely and _HEAD.match(sample.start) else ""


def read(path: Path, data: bytes) -> list[list[Message]]:
    """Return the messages of the chat; see `conversations.ReadChats`.

    Raises:
        ToolkitError: The dates are of no order of day, month and year.
    """
    entries = list(_entries(decode(path, data)))
    times = _times(path, entries)
    messages = []
    for entry, at in zip(entries, times, strict=True):
        spoken = _SPEAKER.fullmatch(entry.rest)
        if spoken and _in_quotation(spoken["name"]):
            continue
        text = _written(spoken["text"]) if spoken else ""
        if spoken and text:
            name = spoken["name"].strip().removeprefix("~").strip("\u200e\u202f\xa0 ")
            messages.append(Message(f"{path}:{entry.line}", at, name, name, text))
    return [messages]


def _in_quotation(name: str) -> bool:
    """Whether a name ends within quotes: in `Ann changed the subject to „a: b“` nobody speaks."""
    closing = ""
    for before, mark in pairwise(" " + name):
        if closing:
            closing = "" if mark in closing else closing
        elif mark != "\u2018" or not before.isalnum():  # within a word it is an apostrophe
            closing = _CLOSING.get(mark, "")
    return closing != ""


def _written(text: str) -> str:
    """Return what a speaker wrote of a message, "" where all of it is WhatsApp's own."""
    lines = [line for line in without_edited(text).split("\n") if not line.startswith("\u200e")]
    if lines and is_own(lines[0]):
        lines.pop(0)
    return "\n".join(lines).strip("\u200e\u200f \n")


class _Entry(NamedTuple):
    line: int
    date: tuple[int, ...]  # three numbers in the file's order
    clock: tuple[int, int, int]
    rest: str


def _entries(text: str) -> Iterator[_Entry]:
    """Yield what each head begins, with the lines that follow it; lines before are left out."""
    current: _Entry | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        head = _HEAD.fullmatch(line.rstrip("\r"))
        if head:
            if current:
                yield current
            date = tuple(int(part) for part in re.findall(r"\d+", head["date"]))
            current = _Entry(number, date, _clock(head), head["rest"])
        elif current:
            current = current._replace(rest=f"{current.rest}\n{line.rstrip(chr(13))}")
    if current:
        yield current


def _clock(head: re.Match[str]) -> tuple[int, int, int]:
    hour = int(head["hour"])
    half = head["after"].lower() if head["after"] else ""
    if head["before"]:
        half = "p" if head["before"] in _EVENING.split("|") else "a"
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return hour, int(head["minute"]), int(head["second"] or 0)


def _times(path: Path, entries: list[_Entry]) -> list[datetime]:
    """Return when each entry was written, in the order of dates that goes back least often."""
    best: list[datetime] = []
    fewest = len(entries) + 1
    for order in ("dmy", "mdy", "ymd"):
        try:
            times = [_time(entry, order) for entry in entries]
        except ValueError:
            continue
        back = sum(later < earlier for earlier, later in pairwise(times))
        if back < fewest:
            best, fewest = times, back
    if entries and not best:
        raise ToolkitError(
            f"{path}: its dates are neither day-month-year, month-day-year nor year-month-day",
            "Learn it as it is with --format text",
        )
    return best


def _time(entry: _Entry, order: str) -> datetime:
    parts = dict(zip(order, entry.date, strict=True))
    year = parts["y"] + 2000 if parts["y"] < 100 else parts["y"]
    return datetime(year, parts["m"], parts["d"], *entry.clock)
