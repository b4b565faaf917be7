"""The beginning of a file, as the formats look at it."""

from dataclasses import dataclass
from pathlib import Path

_BYTES = 64 << 10
HEAD_BYTES = _BYTES + 1
"""What `sample_of` needs of a file: one byte more tells that it goes on."""
_LINES = 200


@dataclass(frozen=True)
class Sample:
    """A file's lower-case suffix, its first bytes, and its first lines that are not blank."""

    suffix: str
    data: bytes
    lines: tuple[str, ...]

    @property
    def start(self) -> str:
        """The first line that is not blank, or ""."""
        return self.lines[0] if self.lines else ""

    def share(self, matching: int) -> float:
        """Return which part of the lines `matching` is."""
        return matching / max(1, len(self.lines))


def sample_of(path: Path, data: bytes) -> Sample:
    """Return what the formats judge a file by; a last line that is cut off is left out."""
    head = data[:_BYTES]
    text = head.decode("utf-8-sig", errors="replace")
    if len(data) > _BYTES and "\n" in text:
        text = text[: text.rindex("\n")]
    lines = (line.strip("\r\u200e\u200f") for line in text.split("\n"))
    kept = [line for line in lines if line.strip()][:_LINES]
    return Sample(path.suffix.lower(), head, tuple(kept))
