"""This machine as a device: the same layout and trainer as a phone, for people without one."""

import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from toolkit.device.base import CHUNK, ShellDevice
from toolkit.device.errors import DeviceCommandError, DeviceLost
from toolkit.device.shell import WrappedCommand
from toolkit.errors import ToolkitError


def local_root() -> Path:
    """Return $TOOLKIT_HOME or ~/.local/share/toolkit."""
    home = os.environ.get("TOOLKIT_HOME")
    return Path(home).absolute() if home else Path.home() / ".local/share/toolkit"


class LocalDevice(ShellDevice):
    """This machine, through its own shell, so that everything above it is what a phone gets."""

    def __init__(self, root: str | Path | None = None, spec: str = "local") -> None:
        self.spec = spec
        self.kind = "local"
        self.root = str(Path(root).absolute() if root else local_root())

    def connect(self) -> None:
        """Create the root directory."""
        try:
            Path(self.root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ToolkitError(
                f"cannot create {self.root}: {error.strerror}",
                "Set TOOLKIT_HOME to a folder you own"
                if self.spec == "local"
                else "Name a folder that you own",
            ) from error

    def close(self) -> None:
        """Nothing is held."""

    def _exchange(
        self, command: WrappedCommand, source: Iterator[bytes] | None, timeout: float
    ) -> Iterator[bytes]:
        with _no_interrupt():
            process = subprocess.Popen(
                ["/bin/sh", "-c", command.line],
                stdin=subprocess.PIPE,  # without a source it only ends when this process does
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        assert process.stdin is not None and process.stdout is not None
        failures: list[BaseException] = []
        feeder = None
        if source is not None:
            arguments = (process, process.stdin, source, failures)
            feeder = threading.Thread(target=_feed, args=arguments, daemon=True)
            feeder.start()
        try:
            yield from self._output(process.stdout, timeout)
            if feeder is not None:
                feeder.join()
            process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            if feeder is None:
                process.stdin.close()
        if failures:
            raise failures[0]

    def _output(self, stdout: IO[bytes], timeout: float) -> Iterator[bytes]:
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(timeout):
                    raise DeviceLost(self.spec, f"no answer for {timeout:.0f} s")
                data = os.read(stdout.fileno(), CHUNK)
                if not data:
                    return
                yield data


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Let what is started within the block not hear Ctrl-C, which is for the host's command.

    A session of its own is not enough: the child would be killed before it has begun that.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _feed(
    process: subprocess.Popen[bytes],
    stdin: IO[bytes],
    source: Iterator[bytes],
    failures: list[BaseException],
) -> None:
    try:
        for data in source:
            stdin.write(data)
        stdin.close()
    except BrokenPipeError:
        pass  # the command ended early; its exit code says why
    except (OSError, DeviceCommandError) as error:
        failures.append(error)
        process.kill()
