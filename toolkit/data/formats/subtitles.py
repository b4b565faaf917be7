"""Subtitles: SubRip, WebVTT, SubStation."""

import re

from toolkit.data.formats.sniffing import Sample

CONVERT = "Take out numbers and times (ffmpeg or an editor of subtitles saves plain text)"
_SUFFIXES = {".srt", ".vtt", ".ass", ".ssa", ".sbv"}
_TIMES = re.compile(r"(\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}(\s*-->\s*|,)(\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}")


def recognize(sample: Sample) -> str:
    """Return what it is: a known suffix or header, or lines of times."""
    known = sample.suffix in _SUFFIXES or sample.start.startswith(("WEBVTT", "[Script Info]"))
    times = sum(_TIMES.match(line.strip()) is not None for line in sample.lines[:30])
    return "subtitles" if known or times >= 2 else ""
