"""Command lines for the device's shell. What reaches it is quoted here and nowhere else."""

import re
import secrets
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

_MARKER = re.compile(rb"(toolkit-exit-[0-9a-f]{16}):(\d{1,3})\r?\n?$")


def quote(value: str | int | float | PurePosixPath) -> str:
    """Return `value` as one word of a POSIX shell. A shell takes no NUL, so it is refused."""
    text = str(value)
    if "\0" in text:
        raise ValueError("a shell word cannot contain NUL")
    return shlex.quote(text)


def command_line(*words: str | int | float | PurePosixPath) -> str:
    """Return the words as one command line, each quoted."""
    return " ".join(quote(word) for word in words)


@dataclass(frozen=True)
class ShellResult:
    """What a finished command left: its exit code, and standard output and error in one stream."""

    code: int
    output: bytes

    @property
    def text(self) -> str:
        """The output as text; bytes that are not UTF-8 are replaced."""
        return self.output.decode("utf-8", "replace")


@dataclass(frozen=True)
class WrappedCommand:
    """A command line that ends its output with a marker and the exit code.

    The old shell service of adb has no exit codes, so the command prints its own. The marker is
    random: no earlier output can be taken for it.
    """

    line: str
    marker: bytes

    def ended(self, tail: bytes) -> bool:
        """Tell whether output that ends in `tail`, its last 64 bytes, is whole."""
        return tail.endswith(b"\n") and self.split(tail) is not None

    def split(self, output: bytes) -> ShellResult | None:
        """Return code and output without the marker, or None if the command ended early."""
        match = _MARKER.search(output[-64:])
        if match is None or match.group(1) != self.marker:
            return None
        return ShellResult(int(match.group(2)), output[: len(output[:-64]) + match.start()])


def wrap(command: str, *, reads_input: bool = False) -> WrappedCommand:
    """Return `command` with files created as 0644, without standard input unless asked, with exit
    code.
    """
    marker = f"toolkit-exit-{secrets.token_hex(8)}"
    source = "" if reads_input else " </dev/null"
    line = f"umask 022; ( {command}\n){source} 2>&1; echo {marker}:$?"
    return WrappedCommand(line, marker.encode())
