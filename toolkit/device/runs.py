"""Runs on a device: started detached, watched through their files, stopped at a step boundary.

The connection may end at any time; the trainer goes on. In the run's folder the shell that starts
it keeps `pid` and, once the trainer has ended, `exit` with its code; `stop` asks it to end after
the current step.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolkit.device.base import Device
from toolkit.device.layout import run_path
from toolkit.device.runtime import Runtime
from toolkit.device.shell import command_line, quote
from toolkit.errors import ToolkitError

_POLL_SECONDS = 0.4
_ALIVE_SECONDS = 2.0
_LINE_LIMIT = 4 << 20
_KILLED = 128 + 9

Value = str | int | float | None


@dataclass
class Run:
    """One run on a device and how far its trace and log have been read, in bytes."""

    device: Device
    name: str
    trace_offset: int = 0
    log_offset: int = 0
    partial: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The run's folder on the device."""
        return run_path(self.device, self.name)

    def exists(self) -> bool:
        """Whether the folder is there."""
        return self.device.stat(self.path) is not None

    def alive(self) -> bool:
        """Whether its trainer runs now: a process with the pid has the run in its command line."""
        pid = self.device.read(f"{self.path}/pid", limit=32).strip()
        if not re.fullmatch(rb"[1-9]\d{0,9}", pid):
            return False
        line = self.device.read(f"/proc/{pid.decode()}/cmdline", limit=65536)
        return self.path.encode() in line

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
        """Ask the trainer to save and end after the current step."""
        self.device.check(f": > {quote(self.path + '/stop')}")

    def discard_if_unstarted(self) -> bool:
        """Remove a run whose trainer refused to begin, so that its name is free again.

        A run that took a step, saved a state or was killed stays: there is something to look at.
        """
        trace, state = quote(f"{self.path}/trace.jsonl"), quote(f"{self.path}/state.bin")
        begun = f'test -e {state} || grep -q \'"type":"step"\' {trace}'
        refused = f'test ! -s {trace} || grep -q \'"type":"end"\' {trace}'
        if self.device.shell(f"( {begun} ) || ! ( {refused} )").code == 0:
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

    def failure(self) -> str:
        """Return why the trainer ended, from its log and exit code, in printable words."""
        log = self.device.read(f"{self.path}/trainer.log", self.log_offset, 1 << 20)
        lines = [_printable(line) for line in log.decode("utf-8", "replace").splitlines()]
        errors = [line for line in lines if line.startswith("error: ")]
        if errors:
            return errors[-1].removeprefix("error: ")
        code = self.wait_for_exit_code()
        if code == _KILLED:
            return "the system killed the trainer (signal 9), most likely for want of memory"
        last = next((line for line in reversed(lines) if line.strip()), "")
        ending = f"with code {code}" if code is not None else "without a word"
        return f"the trainer ended {ending}" + (f": {last}" if last else "")


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("type"), str) else None


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:500]


def read_settings(device: Device, name: str, known: set[str]) -> dict[str, Value]:
    """Return the settings a run was started with: those of `known` names with simple values."""
    content = device.read(f"{run_path(device, name)}/settings.json")
    try:
        settings = json.loads(content)
    except ValueError:
        return {}
    if not isinstance(settings, dict):
        return {}
    return {
        key: value
        for key, value in settings.items()
        if key in known and isinstance(value, str | int | float) and not isinstance(value, bool)
    }


def start(
    device: Device,
    runtime: Runtime,
    name: str,
    arguments: Sequence[str],
    *,
    resume: bool,
    settings: Mapping[str, Value] | None = None,
) -> Run:
    """Start a trainer in the run's folder, detached from the connection.

    Args:
        arguments: of `trainer train`, without --out and --resume.
        resume: continue the run instead of refusing that its folder exists.
        settings: what `read_settings` should return when the run is resumed.

    Raises:
        ToolkitError: the run exists (or does not, with `resume`), or its trainer still runs.
    """
    run = Run(device, name)
    _claim(run, resume)
    if settings is not None:
        device.write(f"{run.path}/settings.json", json.dumps(dict(settings)).encode())
    run.trace_offset = _size(device, f"{run.path}/trace.jsonl")
    run.log_offset = _size(device, f"{run.path}/trainer.log")
    words = ["train", *arguments, "--out", run.path, *(["--resume"] if resume else [])]
    pid, code = quote(run.path + "/pid"), quote(run.path + "/exit")
    # The shell stays as the trainer's parent to note its exit code: nobody else is there to see it.
    supervised = f"echo $$ > {pid}; ( {runtime.command(*words)} ); echo $? > {code}"
    log = quote(run.path + "/trainer.log")
    # A debug daemon kills what a command leaves behind in its session, so we wait until the trainer
    # has a session of its own.
    device.check(
        f"rm -f {pid} {code} {quote(run.path + '/stop')}; "
        f"setsid nohup sh -c {quote(supervised)} </dev/null >> {log} 2>&1 & "
        f"for i in 1 2 3 4 5 6 7 8 9 10; do for j in 1 2 3 4 5 6 7 8 9 10; do "
        f"test -s {pid} && exit 0; sleep 0.1; done; done; exit 1"
    )
    return run


def _claim(run: Run, resume: bool) -> None:
    device = run.device
    if resume:
        if not run.exists():
            raise ToolkitError(
                f"there is no run {run.name!r} on device {device.spec} to resume",
                "Start it without --resume",
            )
        if run.alive():
            raise ToolkitError(
                f"run {run.name!r} is still going on device {device.spec}",
                f"Watch it with `toolkit train --device {device.spec} --attach {run.name}`",
            )
        return
    device.make_directory(f"{device.root}/runs")
    # mkdir without -p fails if the folder exists, so that of two commands only one gets the name.
    if device.shell(command_line("mkdir", run.path)).code != 0:
        if run.exists():
            raise ToolkitError(
                f"run {run.name!r} exists on device {device.spec}",
                "Continue it with --resume, watch it with --attach, or choose another --out",
            )
        device.check(command_line("mkdir", run.path))


def _size(device: Device, path: str) -> int:
    entry = device.stat(path)
    return entry.size if entry is not None and entry.kind == "file" else 0


def attach(device: Device, name: str) -> Run:
    """Return an existing run, to be followed from the start of its trace."""
    run = Run(device, name)
    if not run.exists():
        raise ToolkitError(
            f"there is no run {name!r} on device {device.spec}",
            "Start it with `toolkit train --out`",
        )
    return run


def follow(run: Run) -> Iterator[dict[str, Any] | None]:
    """Yield trace records as they come, None after every look; ends when the trainer has ended."""
    looked, ended = 0.0, False
    while True:
        for record in run.records():
            yield record
            ended = record["type"] == "end"  # a resumed run's trace has one for every part
        yield None
        if ended or time.monotonic() - looked > _ALIVE_SECONDS:
            looked = time.monotonic()
            if not run.alive():
                yield from run.records()
                return
        time.sleep(_POLL_SECONDS)
