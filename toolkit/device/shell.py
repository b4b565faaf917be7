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

    def held(self, output: bytes) -> int:
        """Return how many bytes at the end of `output` may be the marker or its beginning."""
        begin = output.find(self.marker)
        if begin >= 0:
            return len(output) - begin
        lengths = range(min(len(self.marker), len(output)), 0, -1)
        return next((n for n in lengths if output.endswith(self.marker[:n])), 0)

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


def lifeline(command: str, on_loss: str = "true") -> str:
    """Return `command` as one that does not outlive its standard input.

    When the input ends (the host's command ended, was killed, or lost the connection) `on_loss`
    runs and the command is killed with all that it started. It has a session of its own for that:
    a debug daemon may kill the shell of a lost connection, watcher included, but not the session.
    The exit code is the command's.
    """
    watcher = f"{{ cat <&3 >/dev/null; {on_loss}; kill -9 0; }} &"
    session = f"{{ {watcher} {{ {command}\n}} 3<&- </dev/null; }} 3<&0"
    # Descriptor 3 of a group, not of `exec`: a Korn shell would keep that one from its children.
    # And not `<&0` after a `&`, where it would be /dev/null already.
    return (
        f"{{ setsid sh -c {quote(session)} <&3 3<&- & group=$!; wait $group; code=$?; "
        "kill -9 -$group 2>/dev/null; } 3<&0; ( exit $code )"
    )
