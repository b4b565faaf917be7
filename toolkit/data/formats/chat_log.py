"""Chats as text with a time on every line: Signal, IRC."""

import re

from toolkit.data.formats.sniffing import Sample

CONVERT = (
    'Make JSON Lines of it, {"messages": [{"role": "user" or "assistant", "content": ...}, ...]} '
    "a conversation"
)
_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{2,4}"
_TIME = r"\d{1,2}[:.]\d{2}([:.]\d{2})?(\s?[ap]\.?\s?m\.?)?"
_DATED = re.compile(rf"[\u200e\u200f]*\[?{_DATE},?\s+{_TIME}\]?(\s-)?\s+\S", re.IGNORECASE)
_LOG = re.compile(
    rf"[\[(]?({_DATE}[T ,]+)?{_TIME}[\])]?\s*[<*]?\s*[\w.+-]+( [\w.+-]+)?\s*[>:*]",
    re.IGNORECASE,
)
_LIKELY = 0.5  # a message may go over several lines
_FEWEST = 2


def recognize(sample: Sample) -> str:
    """Return which export it is, when half of the lines begin with a time."""
    dated = sum(_DATED.match(line) is not None for line in sample.lines)
    if dated >= _FEWEST and sample.share(dated) >= _LIKELY:
        return "a log: lines begin with date and time"
    logged = sum(_LOG.match(line) is not None for line in sample.lines)
    if logged >= _FEWEST and sample.share(logged) >= _LIKELY:
        return "a chat's log: lines begin with a time and a name"
    return ""
