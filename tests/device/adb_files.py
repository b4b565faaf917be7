"""Cases against a real daemon: the shell, and files that come and go."""

import io
import os
import time
from pathlib import Path

from tests.device.adb_daemon import Daemon
from tests.device.adb_phone import (
    MEGABYTE,
    SPEC,
    make_folder,
    nothing,
    phone,
    refused,
    same_content,
)
from toolkit.device import DeviceCommandError, DeviceLost
from toolkit.device.fetch import pull_run
from toolkit.device.transfer import push_folder, scan


def shell(daemon: Daemon, folder: Path) -> None:
    with phone(root=str(folder)) as device:
        result = device.shell("echo out; echo err >&2; exit 7")
        assert (result.code, result.text) == (7, "out\nerr\n"), result
        assert device.shell("cat").output == b""  # no standard input, so nothing waits for it
        assert device.check("printf '%s' 'it'\\''s'") == "it's"
        error = refused(device.check, "echo because >&2; exit 1")
        assert isinstance(error, DeviceCommandError) and "because" in error.cause
        for block in device.stream("cat /dev/zero"):  # an endless stream can be left
            assert set(block) == {0}
            break
        assert device.shell("echo still here").text == "still here\n"
        info = device.info()
        assert info.kind == "adb" and info.memory_total_kib > 0 and info.page_size >= 4096
        assert info.abi == "x86_64" and info.free_bytes > 0


def files(daemon: Daemon, folder: Path) -> None:
    root = f"{folder}/root"
    with phone(root=root) as device:
        data = bytes(range(256)) * 20_000
        device.make_directory(root)
        device.append(f"{root}/a b", io.BytesIO(data), len(data), nothing)
        device.append(f"{root}/a b", io.BytesIO(b"end"), 3, nothing)
        assert device.read(f"{root}/a b", len(data)) == b"end"
        sink = io.BytesIO()
        device.pull(f"{root}/a b", sink, 5, len(data) - 5, nothing)
        assert sink.getvalue() == data[5:]
        [entry] = device.list(root)
        assert (entry.name, entry.kind, entry.size) == ("a b", "file", len(data) + 3)
        error = refused(device.append, f"{root}/no/file", io.BytesIO(data), len(data), nothing)
        assert isinstance(error, DeviceCommandError)
        assert device.shell("echo still here").text == "still here\n"
        device.remove(f"{root}/a b")
        assert device.stat(f"{root}/a b") is None


def push(daemon: Daemon, folder: Path) -> None:
    source = make_folder(folder / "source", 4)
    with phone(root=f"{folder}/root") as device:
        target = f"{device.root}/bundles/b"
        report = push_folder(device, scan(source), target)
        assert report.sent == 4 * MEGABYTE + 5 and same_content(source, Path(target))
        (source / "it's a name").write_bytes(b"other")
        report = push_folder(device, scan(source), target)
        assert report.sent == 5 and same_content(source, Path(target))
        stored = Path(target) / "base.ptd"
        damaged = bytearray(stored.read_bytes())
        damaged[-1] ^= 0x80
        stored.write_bytes(damaged)
        report = push_folder(device, scan(source), target)
        assert report.sent == 4 * MEGABYTE and same_content(source, Path(target))


def cut_push(daemon: Daemon, folder: Path) -> None:
    source = make_folder(folder / "source", 64)
    files, target = scan(source), f"{folder}/root/bundles/b"

    def cut(_name: str, _done: int, _total: int) -> None:
        # The daemon buffers some megabytes, so what counts is what has reached the storage.
        stored = [part.stat().st_size for part in Path(target).glob(".*.part")]
        if sum(stored) > 4 * MEGABYTE:
            daemon.kill()

    with phone(root=f"{folder}/root") as device:
        begin = time.monotonic()
        error = refused(push_folder, device, files, target, progress=cut)
        assert isinstance(error, DeviceLost), error
        assert "run the same command again" in error.remedy
        assert time.monotonic() - begin < 10, "a lost device must be noticed at once"
    assert not (Path(target) / "base.ptd").exists()
    daemon.start()
    with phone(root=f"{folder}/root") as device:
        report = push_folder(device, files, target)
    assert report.resumed > 4 * MEGABYTE, report
    assert report.resumed + report.sent == 64 * MEGABYTE + 5, report
    assert same_content(source, Path(target))


def cut_pull(daemon: Daemon, folder: Path) -> None:
    run = folder / "root/runs/run1"
    run.mkdir(parents=True)
    (run / "trace.jsonl").write_bytes(b'{"type":"run"}\n')
    (run / "adapter_model.safetensors").write_bytes(os.urandom(32 * MEGABYTE))

    def cut(_name: str, done: int, _total: int) -> None:
        if done > 10 * MEGABYTE:
            daemon.kill()

    with phone(root=f"{folder}/root") as device:
        begin = time.monotonic()
        error = refused(pull_run, device, "run1", folder / "out", progress=cut)
        assert isinstance(error, DeviceLost), error
        assert time.monotonic() - begin < 10, "a lost device must be noticed at once"
    assert not (folder / "out").exists()
    daemon.start()
    with phone(root=f"{folder}/root") as device:
        pulled = pull_run(device, "run1", folder / "out")
    assert pulled.reused_bytes > 9 * MEGABYTE
    assert same_content(run, folder / "out")


def full(daemon: Daemon, folder: Path) -> None:
    """The daemon's storage is a file system of 24 MB."""
    source = make_folder(folder / "source", 16)
    with phone(root=f"{folder}/small") as device:
        target = f"{device.root}/bundles/b"
        error = refused(push_folder, device, scan(source), target)
        assert "25 MB free, 34 MB are needed" in error.cause, error
        device.free_bytes = lambda: None  # a device that does not say, and fills up on the way
        device.check(f"head -c {14 * MEGABYTE} /dev/zero > {device.root}/other")
        error = refused(push_folder, device, scan(source), target)
        assert isinstance(error, DeviceCommandError) and "No space left" in error.cause, error
        assert f"toolkit remove --device {SPEC}" in error.remedy
        assert not (Path(target) / "base.ptd").exists()
        device.remove(f"{device.root}/other")
        report = push_folder(device, scan(source), target)
        assert report.resumed > 0 and same_content(source, Path(target))


def hostile(daemon: Daemon, folder: Path) -> None:
    run = folder / "root/runs/run1"
    run.mkdir(parents=True)
    (run / "trace.jsonl").write_bytes(b'{"type":"run"}\n')
    for name in ("evil", "a\nb", "$(touch pwned)", "-rf", "\x1b[2J", "81a4 1 1 state"):
        (run / name).write_bytes(b"evil")
    with phone(root=f"{folder}/root") as device:
        pull_run(device, "run1", folder / "out")
        assert [path.name for path in (folder / "out").iterdir()] == ["trace.jsonl"]
        (run / "trainer.log").symlink_to("/etc/passwd")
        assert "is a symlink" in refused(pull_run, device, "run1", folder / "out").cause
