"""Beginning and resuming runs: a trainer in the run's folder, detached from the connection."""

import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from toolkit.device.base import Device
from toolkit.device.run_settings import SETTINGS, propose_settings, write_settings
from toolkit.device.runs import Run
from toolkit.device.runtime import Runtime
from toolkit.device.shell import command_line, quote
from toolkit.errors import ToolkitError
from toolkit.settings.declaration import Value

# A command that has made a run's folder writes into it at once; one that is older was given up.
_BEGINNING_SECONDS = 60


def start(
    device: Device,
    runtime: Runtime,
    name: str,
    arguments: Sequence[str],
    *,
    resume: bool,
    settings: Mapping[str, Value] = MappingProxyType({}),
    files: Sequence[str] = (),
) -> Run:
    """Start a trainer in the run's folder.

    Args:
        arguments: of `trainer train`, without --out and --resume.
        resume: continue the run instead of refusing that its folder exists.
        settings: what `read_settings` should return when the run is resumed.
        files: paths on the device of what a new run keeps a copy of.

    Raises:
        ToolkitError: the run exists (or does not, with `resume`), or its trainer still runs, or the
            device's storage is full. Nothing is left of a run that could not begin.
    """
    run = Run(device, name)
    if resume:
        require_resumable(run)
        run.trace_offset = _size(device, f"{run.path}/trace.jsonl")
        run.log_offset = _size(device, f"{run.path}/trainer.log")
        propose_settings(device, name, settings, run.trace_offset)
        _launch(run, runtime, [*arguments, "--resume"])
        return run
    _claim(run)
    try:
        write_settings(device, name, {"name": name, "id": secrets.token_hex(8), **settings})
        if files:
            device.check(command_line("cp", *files, run.path))
        _launch(run, runtime, arguments)
    except ToolkitError:
        _give_up(run)
        raise
    return run


def _launch(run: Run, runtime: Runtime, arguments: Sequence[str]) -> None:
    names = ("pid", "trainer.pid", "exit", "stop", "trainer.log")
    pid, trainer, code, stop, log = (quote(f"{run.path}/{name}") for name in names)
    command = runtime.command("train", *arguments, "--out", run.path)
    # The shell stays as the trainer's parent to note its exit code: nobody else is there to see it.
    # What cannot be noted, on a full storage, is not started: it could not be found again.
    child = f"echo $$ > {trainer} || exit 1; {command}"
    supervised = f"echo $$ > {pid} || exit 1; sh -c {quote(child)}; echo $? > {code}"
    # A debug daemon kills what a command leaves behind in its session, so we wait until the trainer
    # has a session of its own.
    run.device.check(
        f"rm -f {pid} {trainer} {code} {stop}; "
        f"setsid nohup sh -c {quote(supervised)} </dev/null >> {log} 2>&1 & "
        f"for i in 1 2 3 4 5 6 7 8 9 10; do for j in 1 2 3 4 5 6 7 8 9 10; do "
        f"test -s {pid} && exit 0; sleep 0.1; done; done; exit 1"
    )


def require_resumable(run: Run) -> None:
    """Raise unless the run is there and nobody trains it now."""
    device, name = run.device, run.name
    if not run.exists():
        raise ToolkitError(
            f"there is no run {name!r} on device {device.spec} to resume",
            "Start it without --resume",
        )
    if run.alive():
        raise ToolkitError(
            f"run {name!r} is still going on device {device.spec}",
            f"Watch it with `toolkit train --device {device.spec} --attach {name}`",
        )


def _claim(run: Run) -> None:
    device = run.device
    device.make_directory(f"{device.root}/runs")
    # mkdir without -p fails if the folder exists, so that of two commands only one gets the name.
    claim = command_line("mkdir", run.path)
    if device.shell(claim).code == 0:
        return
    if not run.exists():
        device.check(claim)  # fails, and says why
    if not _abandoned(run):
        raise ToolkitError(
            f"run {run.name!r} exists on device {device.spec}",
            "Continue it with --resume, watch it with --attach, or choose another --out",
        )
    device.remove(run.path)
    device.check(claim)


def _abandoned(run: Run) -> bool:
    """Whether a folder is one that a command made and was cut off before it wrote into it."""
    folder = quote(run.path)
    age = f"$(( $(date +%s) - $(stat -c %Y {folder}) ))"
    empty = f"test ! -e {folder}/{SETTINGS} -a ! -e {folder}/trace.jsonl -a ! -e {folder}/pid"
    return run.device.shell(f"{empty} && test {age} -ge {_BEGINNING_SECONDS}").code == 0


def _give_up(run: Run) -> None:
    """Remove a run that could not begin, as far as the device still answers."""
    try:
        if not run.alive():
            run.device.remove(run.path)
    except ToolkitError:
        pass  # the failure before this one is the one to tell


def _size(device: Device, path: str) -> int:
    entry = device.stat(path)
    return entry.size if entry is not None and entry.kind == "file" else 0
