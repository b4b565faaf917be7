"""The Device protocol, and the file operations every device with a POSIX shell has in common."""

import io
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Protocol, Self

from toolkit.device import parsers
from toolkit.device.errors import DeviceCommandError, DeviceLost
from toolkit.device.info import DeviceInfo, info_command, parse_info
from toolkit.device.parsers import FileStat
from toolkit.device.shell import ShellResult, WrappedCommand, command_line, quote, wrap
from toolkit.device.storage import full_storage, space_remedy

CHUNK = 256 * 1024
PIECE = 8 << 20
_TIMEOUT = 30.0
_HASH_TIMEOUT = 900.0
_STAT_FORMAT = "%f %s %Y %n"

OnBytes = Callable[[int], None]


@dataclass
class Traffic:
    """Bytes of commands and files to a device, and of output and files from it."""

    sent: int = 0
    received: int = 0


class Device(Protocol):
    """Somewhere a trainer runs: this machine or a phone. Paths on it are absolute.

    Every method raises DeviceLost when the connection breaks and DeviceCommandError when the device
    refuses.
    """

    spec: str
    kind: str
    root: str
    exclusive: bool

    @property
    def traffic(self) -> Traffic: ...
    def connect(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def shell(self, command: str, timeout: float = _TIMEOUT) -> ShellResult: ...
    def check(self, command: str, timeout: float = _TIMEOUT) -> str: ...
    def stream(
        self, command: str, timeout: float = _TIMEOUT, *, input_open: bool = False
    ) -> Iterator[bytes]: ...
    def append(self, path: str, source: IO[bytes], length: int, on_bytes: OnBytes) -> None: ...
    def pull(
        self, path: str, sink: IO[bytes], offset: int, length: int, on_bytes: OnBytes
    ) -> None: ...
    def read(self, path: str, offset: int = 0, limit: int = CHUNK) -> bytes: ...
    def write(self, path: str, content: bytes) -> None: ...
    def stat(self, path: str) -> FileStat | None: ...
    def list(self, path: str, *, recursive: bool = False) -> list[FileStat]: ...
    def remove(self, path: str) -> None: ...
    def rename(self, source: str, target: str) -> None: ...
    def make_directory(self, path: str) -> None: ...
    def make_executable(self, path: str) -> None: ...
    def sha256(self, paths: Iterable[str]) -> dict[str, str]: ...
    def free_bytes(self) -> int | None: ...
    def info(self) -> DeviceInfo: ...


class ShellDevice(ABC):
    """A device reached through a POSIX shell; subclasses say how a command's bytes travel.

    Only tools that Android's toybox has are used, in the forms toybox and GNU coreutils share.

    Attributes:
        exclusive: Whether it takes one connection at a time.
    """

    spec: str
    kind: str
    root: str
    exclusive: bool = False

    @cached_property
    def traffic(self) -> Traffic:
        """What has gone to the device and come from it since this object was made."""
        return Traffic()

    @abstractmethod
    def connect(self) -> None:
        """Reach the device or raise a ToolkitError with a remedy."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the device. Programs started on it detached keep running."""

    @abstractmethod
    def _exchange(
        self, command: WrappedCommand, source: Iterator[bytes] | None, timeout: float
    ) -> Iterator[bytes]:
        """Run a command, feed it `source`, yield its output; `timeout` s of silence lose it."""

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def shell(self, command: str, timeout: float = _TIMEOUT) -> ShellResult:
        """Run a command to its end and return its exit code and output."""
        return self._run(command, None, timeout)

    def check(self, command: str, timeout: float = _TIMEOUT) -> str:
        """Run a command that must succeed and return its output as text."""
        result = self.shell(command, timeout)
        self._require(result, command)
        return result.text

    def stream(
        self, command: str, timeout: float = _TIMEOUT, *, input_open: bool = False
    ) -> Iterator[bytes]:
        """Yield a command's standard output as it comes; a nonzero exit raises at the end.

        With `input_open` its standard input is empty but ends only when this side goes away, for
        `toolkit.device.shell.lifeline`; otherwise it is /dev/null.
        """
        wrapped = wrap(f"( {command}\n) 2>/dev/null", reads_input=input_open)
        tail = b""
        for data in self._counted(wrapped, None, timeout):
            tail += data
            if ready := len(tail) - wrapped.held(tail):
                yield tail[:ready]
                tail = tail[ready:]
        result = wrapped.split(tail)
        if result is None:
            raise DeviceLost(self.spec, "a command ended early")
        if result.output:
            yield result.output
        self._require(ShellResult(result.code, b""), command)

    def append(self, path: str, source: IO[bytes], length: int, on_bytes: OnBytes) -> None:
        """Append the next `length` bytes of `source` to a file; what arrived stays there."""
        if length == 0:
            self.check(f": >> {quote(path)}")  # toybox's head takes 0 for its default of ten lines
        # adbd 34 acknowledges a packet when any part of it has reached the command, and keeps the
        # rest in its memory: a command for every piece bounds what it holds and what a cut loses.
        for begin in range(0, length, PIECE):
            self._append_piece(path, source, min(PIECE, length - begin), on_bytes)

    def _append_piece(self, path: str, source: IO[bytes], length: int, on_bytes: OnBytes) -> None:
        def chunks() -> Iterator[bytes]:
            left = length
            while left:
                data = source.read(min(CHUNK, left))
                if not data:
                    raise DeviceCommandError(
                        f"a file became shorter while it was sent to {posixpath.basename(path)}"
                    )
                left -= len(data)
                yield data
                on_bytes(len(data))

        result = self._run(f"head -c {int(length)} >> {quote(path)}", chunks(), _TIMEOUT, True)
        self._require(result, f"writing {posixpath.basename(path)}")

    def pull(self, path: str, sink: IO[bytes], offset: int, length: int, on_bytes: OnBytes) -> None:
        """Write `length` bytes of a file from `offset` on to `sink`; never more, whatever the
        device sends.
        """
        left = length
        if left == 0:
            return
        command = f"tail -c +{int(offset) + 1} {quote(path)} | head -c {int(length)}"
        for data in self.stream(command):
            if len(data) > left:
                raise DeviceCommandError(f"device {self.spec} sent more than it announced")
            sink.write(data)
            left -= len(data)
            on_bytes(len(data))
        if left:
            raise DeviceCommandError(f"{posixpath.basename(path)} became shorter on the device")

    def read(self, path: str, offset: int = 0, limit: int = CHUNK) -> bytes:
        """Return up to `limit` bytes of a file from `offset` on; nothing if it does not exist."""
        command = f"tail -c +{int(offset) + 1} {quote(path)} 2>/dev/null | head -c {int(limit)}"
        return b"".join(self.stream(command))[:limit]

    def write(self, path: str, content: bytes) -> None:
        """Write a small file under a temporary name and rename it."""
        temporary = f"{path}.new"
        self.check(command_line("rm", "-f", temporary))
        self.append(temporary, io.BytesIO(content), len(content), lambda _: None)
        self.rename(temporary, path)

    def stat(self, path: str) -> FileStat | None:
        """Return kind and size of a path, symlinks not followed, or None if it does not exist."""
        result = self.shell(command_line("stat", "-c", _STAT_FORMAT, path))
        found = [entry for entry in parsers.parse_stat(result.text) if entry.path == path]
        return found[0] if result.code == 0 and found else None

    def list(self, path: str, *, recursive: bool = False) -> list[FileStat]:
        """Return what a directory holds (nothing if it does not exist), symlinks not followed."""
        depth = "" if recursive else "-maxdepth 1"
        command = (
            f"test ! -d {quote(path)} || find {quote(path)} -mindepth 1 {depth} "
            f"-exec stat -c {quote(_STAT_FORMAT)} {{}} +"
        )
        entries = parsers.parse_stat(self.check(command, _HASH_TIMEOUT))
        return [entry for entry in entries if entry.path.startswith(path + "/")]

    def remove(self, path: str) -> None:
        """Remove a file or directory below the root."""
        self._require_below_root(path)
        self.check(command_line("rm", "-rf", path), _HASH_TIMEOUT)

    def rename(self, source: str, target: str) -> None:
        """Rename a file, replacing the target."""
        self.check(command_line("mv", "-f", source, target))

    def make_directory(self, path: str) -> None:
        """Create a directory and its parents."""
        self.check(command_line("mkdir", "-p", path))

    def make_executable(self, path: str) -> None:
        """Let everyone execute a file."""
        self.check(command_line("chmod", "755", path))

    def sha256(self, paths: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 by path, computed on the device; missing files are left out."""
        digests: dict[str, str] = {}
        wanted = list_of(paths)
        for begin in range(0, len(wanted), 50):
            command = command_line("sha256sum", *wanted[begin : begin + 50])
            digests |= parsers.parse_sha256sum(self.shell(command, _HASH_TIMEOUT).text)
        return digests

    def free_bytes(self) -> int | None:
        """Return the space left for our root in bytes, or None if the device does not say."""
        return parsers.parse_df(self.shell(command_line("df", "-k", self.root)).text)

    def info(self) -> DeviceInfo:
        """Read the device's properties."""
        return parse_info(self.check(info_command(self.root)), device=self.spec, kind=self.kind)

    def _counted(
        self, command: WrappedCommand, source: Iterator[bytes] | None, timeout: float
    ) -> Iterator[bytes]:
        """Run a command as `_exchange` does, and count what went to and fro."""
        self.traffic.sent += len(command.line)
        for data in self._exchange(command, source and self._counted_source(source), timeout):
            self.traffic.received += len(data)
            yield data

    def _counted_source(self, source: Iterator[bytes]) -> Iterator[bytes]:
        for data in source:
            self.traffic.sent += len(data)
            yield data

    def _run(
        self,
        command: str,
        source: Iterator[bytes] | None,
        timeout: float,
        reads_input: bool = False,
    ) -> ShellResult:
        wrapped = wrap(command, reads_input=reads_input)
        result = wrapped.split(b"".join(self._counted(wrapped, source, timeout)))
        if result is None:
            raise DeviceLost(self.spec, "a command ended early")
        return result

    def _require(self, result: ShellResult, command: str) -> None:
        if result.code == 0:
            return
        lines = [line for line in result.text.splitlines() if line.strip()]
        detail = f": {lines[-1].strip()[:200]}" if lines else ""
        full = "No space left" in detail or (not detail and full_storage(self))
        raise DeviceCommandError(
            (f"the storage of device {self.spec} is full: " if full else "")
            + f"a command failed on device {self.spec} with code {result.code} "
            f"({command[:80]}){detail}",
            space_remedy(self) if full else "",
        )

    def _require_below_root(self, path: str) -> None:
        if posixpath.normpath(path) != path or not path.startswith(self.root + "/"):
            raise ValueError(f"{path} is not below {self.root}")


def list_of(paths: Iterable[str]) -> list[str]:
    """Return a list; inside ShellDevice the name `list` is a method."""
    return [*paths]
