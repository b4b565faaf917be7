"""Runs on a device: watched through their files, stopped at a step boundary.

The connection may end at any time; the trainer goes on. In the run's folder are `pid` of the shell
that waits for the trainer and `trainer.pid`, once it has ended `exit` with its code; `stop` asks it
to end before or after the current step. `toolkit.device.run_start` begins and resumes them.
"""

import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from toolkit.device.base import Device
from toolkit.device.layout import run_path
from toolkit.device.parsers import parse_object, printable
from toolkit.device.shell import quote
from toolkit.device.storage import full_storage
from toolkit.errors import ToolkitError

_POLL_SECONDS = 0.4
_ALIVE_SECONDS = 2.0
_LINE_LIMIT = 4 << 20
_HISTORY_SECONDS = 900.0
_KILLED = 128 + 9
_PIDS = "pid trainer.pid"


@dataclass
class Run:
    """One run on a device and how far its trace and log have been read, in bytes."""

    device: Device
    name: str
    trace_offset: int = 0
    log_offset: int = 0
    partial: bytes = field(default=b"", repr=False)
    unseen: deque[dict[str, Any]] = field(default_factory=deque, repr=False)

    @property
    def path(self) -> str:
        """The run's folder on the device."""
        return run_path(self.device, self.name)

    @property
    def where(self) -> str:
        """The options that lead other commands to the run's device."""
        return f"--device {self.device.spec}"

    def exists(self) -> bool:
        """Whether the folder is there."""
        return self.device.stat(self.path) is not None

    def alive(self) -> bool:
        """Whether its trainer runs now, or the shell that waits for it.

        A process with one of the pids has the run in its command line; each counts by itself, since
        either may be killed alone.
        """
        output = self.device.shell(
            f"for file in {_PIDS}; do pid=$(head -c 20 {quote(self.path)}/$file 2>/dev/null); "
            'case $pid in ""|*[!0-9]*) ;; *) cat /proc/$pid/cmdline 2>/dev/null; echo;; esac; done'
        ).output
        path = self.path.encode()
        return any(path + end in output for end in (b"/", b"\0", b"'"))

    def exit_code(self) -> int | None:
        """The code the trainer ended with, or None while it runs or if nobody saw it end."""
        text = self.device.read(f"{self.path}/exit", limit=16).strip()
        return int(text) if re.fullmatch(rb"\d{1,3}", text) else None

    def wait_for_exit_code(self) -> int | None:
        """The exit code of a trainer that is gone; its parent may still be writing it."""
        for _ in range(10):
            if (code := self.exit_code()) is not None:
                return code
            time.sleep(0.1)
        return None

    def request_stop(self) -> None:
        """Ask the trainer to save and end before or after the current step."""
        self.device.check(f": > {quote(self.path + '/stop')}")

    def discard_if_refused(self) -> bool:
        """Remove a run that this side began if its trainer refused it: its name is free again.

        A run that went to work, if only on its first step, or that was killed stays: there is
        something to look at. The trainer copies the adapter's configuration when it accepts a run.
        """
        trace, work = quote(f"{self.path}/trace.jsonl"), ("state.bin", "adapter_config.json")
        begun = " || ".join(f"test -e {quote(f'{self.path}/{name}')}" for name in work)
        refused = f'test ! -s {trace} || grep -q \'"type":"end"\' {trace}'
        stepped = f'grep -q \'"type":"step"\' {trace} 2>/dev/null'
        if self.device.shell(f"{begun} || {stepped} || ! ( {refused} )").code == 0:
            return False
        self.device.remove(self.path)
        return True

    def records(self) -> list[dict[str, Any]]:
        """Return the trace records that were written since the last call."""
        trace = f"{self.path}/trace.jsonl"
        found = []
        while data := self.device.read(trace, self.trace_offset):
            self.trace_offset += len(data)
            *lines, self.partial = (self.partial + data).split(b"\n")
            if len(self.partial) > _LINE_LIMIT:
                raise ToolkitError(
                    f"the trace of run {self.name!r} holds a line of {len(self.partial)} bytes",
                    "Pull the run and look at trace.jsonl",
                )
            found += [record for line in lines if (record := _parse(line))]
        return found

    def rewind(self, trace_offset: int, log_offset: int) -> None:
        """Have `records` and `failure` begin there again."""
        self.trace_offset, self.log_offset, self.partial = trace_offset, log_offset, b""
        self.unseen.clear()

    def history(self, *, whole: bool = False) -> list[dict[str, Any]]:
        """Return the records of parts, steps, evaluations and ends, picked out on the device.

        Args:
            whole: Of all that is there, not only of what is before `trace_offset`.
        """
        kinds = ("run", "step", "evaluation", "end")
        words = " ".join("-e " + quote(f'"type":"{kind}"') for kind in kinds)
        trace = quote(f"{self.path}/trace.jsonl")
        head = f"cat {trace} 2>/dev/null" if whole else f"head -c {self.trace_offset} {trace}"
        lines = self.device.stream(f"{head} | grep -a -F {words} || true", _HISTORY_SECONDS)
        return [
            record for line in b"".join(lines).split(b"\n") if (record := _parse(line)) is not None
        ]

    def status(self) -> str:
        """Return "running", "completed", "stopped" or "failed", by what is on the device now."""
        if self.alive():
            return "running"
        words = " ".join("-e " + quote(f'"type":"{kind}"') for kind in ("run", "end"))
        trace = quote(f"{self.path}/trace.jsonl")
        last = self.device.shell(f"grep -a -F {words} {trace} 2>/dev/null | tail -n 1").output
        record = _parse(last) or {}
        # A part that was refused leaves the trace as it was: the code tells.
        if record.get("type") != "end" or self.exit_code() not in (0, None):
            return "failed"
        return str(record.get("status"))

    def failure(self) -> str:
        """Return why the trainer ended, from its log and exit code, in printable words."""
        log = self.device.read(f"{self.path}/trainer.log", self.log_offset, 1 << 20)
        lines = [printable(line) for line in log.decode("utf-8", "replace").splitlines()]
        errors = [line for line in lines if line.startswith("error: ")]
        if errors:
            return errors[-1].removeprefix("error: ")
        code = self.wait_for_exit_code()
        if code == _KILLED:
            return "the system killed the trainer (signal 9), most likely for want of memory"
        if full := full_storage(self.device):
            return full
        last = next((line for line in reversed(lines) if line.strip()), "")
        ending = f"with code {code}" if code is not None else "without a word"
        return f"the trainer ended {ending}" + (f": {last}" if last else "")


def _parse(line: bytes) -> dict[str, Any] | None:
    record = parse_object(line) or {}
    return record if isinstance(record.get("type"), str) else None


def attach(device: Device, name: str) -> Run:
    """Return an existing run, to be followed from the start of its trace."""
    run = Run(device, name)
    if not run.exists():
        raise ToolkitError(
            f"there is no run {name!r} on device {device.spec}",
            f"`toolkit list --device {device.spec}` shows what runs there are",
        )
    return run


def _unseen(run: Run) -> Iterator[dict[str, Any]]:
    """Yield new records; those that are not taken from here come the next time."""
    run.unseen.extend(run.records())
    while run.unseen:
        yield run.unseen.popleft()


def follow(run: Run) -> Iterator[dict[str, Any] | None]:
    """Yield trace records as they come, None after every look; ends when the trainer has ended."""
    looked, ended = 0.0, False
    while True:
        for record in _unseen(run):
            yield record
            ended = record["type"] == "end"  # a resumed run's trace has one for every part
        yield None
        if ended or time.monotonic() - looked > _ALIVE_SECONDS:
            looked = time.monotonic()
            if not run.alive():
                yield from _unseen(run)
                return
        time.sleep(_POLL_SECONDS)
