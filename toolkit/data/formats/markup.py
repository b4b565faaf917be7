"""HTML, XML and RTF: text between tags that a model should not learn."""

import re

from toolkit.data.formats.sniffing import Sample

CONVERT = "Make text of it (pandoc -t plain), or records where it holds some"
_SUFFIXES = {".html": "HTML", ".htm": "HTML", ".xhtml": "HTML", ".xml": "XML", ".rtf": "RTF"}
_HTML = re.compile(r"\s*<(!doctype html|html|head|body)\b", re.IGNORECASE)


def recognize(sample: Sample) -> str:
    """Return what it is, with the chat program where an export of one is known."""
    kind = _SUFFIXES.get(sample.suffix, "")
    if _HTML.match(sample.start):
        kind = "HTML"
    elif sample.start.lstrip().startswith("<?xml"):
        kind = "HTML" if any(_HTML.match(line) for line in sample.lines[:3]) else "XML"
    elif sample.start.startswith("{\\rtf"):
        kind = "RTF"
    if kind == "HTML" and any('class="page_wrap"' in line for line in sample.lines[:60]):
        return "a Telegram export (HTML; Telegram Desktop also exports JSON)"
    return kind and f"{kind}, which is text between tags"
