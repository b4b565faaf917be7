"""Cases against a real daemon, one per process: `python -m tests.device.adb_cases CASE FOLDER`."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.device.adb_daemon import ADDRESS, Daemon, Server
from tests.support.fake_system_trace import FAKE_SYSTEM_TRACE, write_fake_atrace
from tests.support.fake_trainer import ADAPTER, write_fake_bundle, write_fake_runtime
from tests.support.processes import processes_with, wait_for
from toolkit import __version__
from toolkit.device import DeviceCommandError, DeviceLost, open_device
from toolkit.device.adb import AdbDevice
from toolkit.device.adb_server import ServerDevice, ServerPhone, server_phones
from toolkit.device.commands import run_trainer
from toolkit.device.fetch import pull_run
from toolkit.device.run_start import start
from toolkit.device.runs import attach, follow
from toolkit.device.runtime import deploy_runtime
from toolkit.device.transfer import push_folder, scan
from toolkit.errors import ToolkitError
from toolkit.settings.training import TrainSettings

MEGABYTE = 1 << 20


THROUGH_SERVER = os.environ.get("TOOLKIT_TEST_ADB_SERVER") == "1"
SPEC = Server.SERIAL if THROUGH_SERVER else ADDRESS
"""The phone of the cases: reached through an adb server, or directly."""


def phone(root: str) -> AdbDevice | ServerDevice:
    """Return the phone, its root changed."""
    os.environ["TOOLKIT_DEVICE_ROOT"] = root
    device = open_device(SPEC)
    assert isinstance(device, ServerDevice if THROUGH_SERVER else AdbDevice)
    return device


def nothing(_count: int) -> None:
    pass


def refused(function, *arguments, **options) -> ToolkitError:
    """Return the error a call must raise."""
    try:
        function(*arguments, **options)
    except ToolkitError as error:
        return error
    raise AssertionError(f"{function} did not fail")


def make_folder(path: Path, megabytes: int) -> Path:
    path.mkdir()
    (path / "base.ptd").write_bytes(os.urandom(megabytes * MEGABYTE))
    (path / "it's a name").write_bytes(b"small")
    return path


def same_content(left: Path, right: Path) -> bool:
    names = [path.name for path in left.iterdir()]
    return all((left / name).read_bytes() == (right / name).read_bytes() for name in names)


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


def full_start(daemon: Daemon, folder: Path) -> None:
    """No byte is left when a run starts: nothing of it stays, and the storage is named."""
    runtime_folder = write_fake_runtime(folder / "runtime", version=__version__)
    with phone(root=f"{folder}/small") as device:
        runtime = deploy_runtime(device, runtime_folder, "x86_64")
        words = ["--steps", "3", "--lr", "0"]
        device.shell(f"head -c 40000000 /dev/zero > {device.root}/filler")
        error = refused(start, device, runtime, "run1", words, resume=False, settings={"lr": 1})
        assert f"the storage of device {SPEC} is full" in error.cause, error
        assert "toolkit list" in error.remedy
        assert not Path(f"{device.root}/runs/run1").exists()
        device.remove(f"{device.root}/filler")
        run = start(device, runtime, "run1", words, resume=False)
        assert [r["type"] for r in follow(run) if r] == ["run", "step", "step", "step", "end"]
        device.shell(f"head -c 40000000 /dev/zero > {device.root}/filler")
        error = refused(start, device, runtime, "run1", words, resume=True, settings={"lr": 1})
        assert "is full" in error.cause, error
        run.log_offset = 1 << 20  # a trainer that ended without a word
        assert f"the storage of device {SPEC} is full" in run.failure()


def mount_small(folder: Path) -> None:
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=True)


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


def train(daemon: Daemon, folder: Path) -> None:
    """The connection breaks and the daemon dies; the run goes on and can be watched again."""
    runtime_folder = write_fake_runtime(folder / "runtime", version=__version__, pause=0.2)
    with phone(root=f"{folder}/root") as device:
        runtime = deploy_runtime(device, runtime_folder, "x86_64")
        run = start(device, runtime, "run1", ["--steps", "30", "--lr", "0"], resume=False)
        steps = 0
        try:
            for record in follow(run):
                if record and record["type"] == "step":
                    steps += 1
                    if steps == 2:
                        daemon.kill()
        except DeviceLost:
            pass
        assert 2 <= steps < 30
    daemon.start()
    with phone(root=f"{folder}/root") as device:
        run = attach(device, "run1")
        assert run.alive(), "the run ended with the connection"
        run.request_stop()
        records = [record for record in follow(run) if record]
        assert records[-1]["type"] == "end" and records[-1]["status"] == "stopped"
        assert run.exit_code() == 0
        pull_run(device, "run1", folder / "out")
        assert (folder / "out/adapter_model.safetensors").read_bytes() == ADAPTER


def toolkit(*words: str, code: int = 0, errors: bool = False) -> str:
    """Run a command as a process; return its output, or its errors if wanted or if it must fail."""
    command = [sys.executable, "-m", "toolkit.cli.main", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == code, (words, result)
    return result.stdout if code == 0 and not errors else result.stderr


def commands(daemon: Daemon, folder: Path) -> None:
    """The commands a user types, one process each."""
    bundle, data = write_fake_bundle(folder)
    os.environ["TOOLKIT_DEVICE_ROOT"] = f"{folder}/root"
    os.environ["TOOLKIT_CACHE"] = f"{folder}/cache"
    write_fake_runtime(folder / "cache/runtime" / __version__ / "x86_64", version=__version__)
    [row] = json.loads(toolkit("devices", SPEC, "--json"))
    assert row["device"] == SPEC and row["abi"] == "x86_64"
    deploy = ("deploy", str(bundle), "--data", str(data), "--device", SPEC, "--json")
    assert json.loads(toolkit(*deploy))["transfers"]["bundle"]["sent"] > 0
    assert json.loads(toolkit(*deploy))["transfers"]["bundle"]["sent"] == 0
    train = ("train", "--device", SPEC, "--out", "run1", "--steps", "4", "--json")
    records = [json.loads(line) for line in toolkit(*train).splitlines()]
    assert [record["type"] for record in records] == ["run", *["step"] * 4, "end"]
    assert "run 'run1' exists" in toolkit(*train, code=1)
    toolkit("pull", "--device", SPEC, "run1", "-o", str(folder / "runs/run1"))
    assert (folder / "runs/run1/adapter_model.safetensors").is_file()
    found = json.loads(toolkit("list", "--device", SPEC, "--json"))
    uses = {item["name"]: item["used_by"] for item in found["items"]}
    assert uses["bundles/bundle"] == ["run1"] and uses["runs/run1"] == []
    toolkit("remove", "--device", SPEC, "run1")
    assert not (folder / "root/runs/run1").exists()
    daemon.kill()
    error = toolkit("pull", "--device", SPEC, "run1", code=1)
    gone = ("no device emulator-5554", "emulator-5554 is offline", "was lost")
    assert any(words in error for words in (gone if THROUGH_SERVER else ["refused the connection"]))


def evaluate_cut(daemon: Daemon, folder: Path) -> None:
    """A trainer that computes ends when its host is killed, and when the connection is."""

    # By the path of this test's own runtime: others may evaluate on this machine, too.
    def evaluating() -> dict[int, str]:
        own = processes_with(f"{folder}/root/")
        return {pid: line for pid, line in own.items() if "trainer evaluate" in line}

    runtime_folder = write_fake_runtime(folder / "runtime", version=__version__)
    with phone(root=f"{folder}/root") as device:
        runtime = deploy_runtime(device, runtime_folder, "x86_64")
        scratch = f"{device.root}/scratch/one"
        device.make_directory(scratch)
        for record in run_trainer(device, runtime, "evaluate", scratch=scratch):
            assert record["samples"] == 1
            assert evaluating()
            daemon.kill()
            break
        wait_for(lambda: not evaluating())
        wait_for(lambda: not Path(scratch).exists())
    daemon.start()
    code = (
        "import sys, toolkit.device.commands as commands\n"
        "from toolkit.device import open_device\n"
        "from toolkit.device.runtime import find_runtime\n"
        "with open_device(sys.argv[1]) as device:\n"
        "    list(commands.run_trainer(device, find_runtime(device), 'evaluate'))\n"
    )
    os.environ["TOOLKIT_DEVICE_ROOT"] = f"{folder}/root"
    host = subprocess.Popen([sys.executable, "-c", code, SPEC])
    wait_for(lambda: evaluating())
    host.kill()
    host.wait()
    wait_for(lambda: not evaluating())


def system_trace(daemon: Daemon, folder: Path) -> None:
    """`train --atrace` with a stand-in for the system's tool, and then without any."""
    bundle, data = write_fake_bundle(folder)
    os.environ["TOOLKIT_DEVICE_ROOT"] = f"{folder}/root"
    os.environ["TOOLKIT_CACHE"] = f"{folder}/cache"
    write_fake_runtime(folder / "cache/runtime" / __version__ / "x86_64", version=__version__)
    write_fake_atrace(folder / "bin", folder / "atrace.log")
    daemon.kill()
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}/bin:{path}"
    daemon.start()
    os.environ["PATH"] = path
    os.environ["PYTHONPATH"] = str(Path.cwd())
    os.chdir(folder)
    toolkit("deploy", str(bundle), "--data", str(data), "--device", SPEC)
    train = ("train", "--device", SPEC, "--steps", "3", "--atrace", "--json", "--out")
    assert "system trace: runs/run1.system.atrace" in toolkit(*train, "run1", errors=True)
    assert Path("runs/run1.system.atrace").read_bytes() == FAKE_SYSTEM_TRACE
    started, stopped = Path("atrace.log").read_text().splitlines()
    assert started == "--async_start -c -b 16384 sched freq disk"
    assert stopped.startswith(f"--async_stop -z -o {folder}/root/toolkit-run1-")
    assert not list(Path("root").glob("toolkit-run1-*")), "it was left on the device"
    daemon.kill()
    daemon.start()
    said = toolkit(*train, "run2", errors=True)
    assert f"no system trace: device {SPEC} offers neither perfetto nor atrace" in said
    assert not list(Path("runs").glob("run2*"))


def server_states(daemon: Daemon, folder: Path) -> None:
    """What a server knows is listed with its state; phones that are not ready are explained."""
    server = Server()
    server.start()
    daemon.kill()
    daemon.start()
    rows = {row["device"]: row for row in json.loads(toolkit("devices", "--json"))}
    assert rows.keys() == {"local", Server.SERIAL}
    assert rows[Server.SERIAL]["abi"] == "x86_64" and rows[Server.SERIAL]["kind"] == "adb"
    assert isinstance(open_device(Server.SERIAL), ServerDevice)
    assert isinstance(open_device(ADDRESS), AdbDevice), "the server does not have it"
    subprocess.run(["adb", "connect", ADDRESS], check=True, capture_output=True)
    wait_for(lambda: isinstance(open_device(ADDRESS), ServerDevice))
    wait_for(lambda: ServerPhone(ADDRESS, "device") in server_phones())
    with open_device(ADDRESS) as device:
        assert device.shell("echo by the server").text == "by the server\n"
        error = refused(open_device("NOSUCHPHONE").connect)
        assert "no device NOSUCHPHONE (the adb server knows: " in error.cause
        assert "adb pair" in error.remedy
        os.environ["ANDROID_ADB_SERVER_PORT"] = "5038"
        assert isinstance(open_device(ADDRESS), AdbDevice), "no server runs there"
        del os.environ["ANDROID_ADB_SERVER_PORT"]
        server.stop()
        error = refused(device.shell, "true")
        assert isinstance(error, DeviceLost) and "server has ended" in error.cause
    assert server_phones() is None, "one was started"


def refusals(daemon: Daemon, folder: Path) -> None:
    daemon.kill()
    error = refused(open_device(SPEC).connect)
    assert "refused the connection" in error.cause and "adb tcpip" in error.remedy
    error = refused(open_device("NOSUCHPHONE").connect)
    assert "no device with serial NOSUCHPHONE" in error.cause


def real_training(daemon: Daemon, folder: Path) -> None:
    """The real trainer with its own loader and libraries, on the bundle and data in `folder`."""
    os.environ["TOOLKIT_DEVICE_ROOT"] = f"{folder}/root"
    device = ("--device", SPEC)
    toolkit("deploy", f"{folder}/bundle", "--data", f"{folder}/data", *device)
    settings = ("--steps", "4", "--lr", "0.01", "--threads", "1", "--out", "run1")
    output = toolkit("train", *settings, "--json", *device)
    records = [json.loads(line) for line in output.splitlines()]
    assert [r["step"] for r in records if r["type"] == "step"] == [1, 2, 3, 4]
    assert records[-1]["status"] == "completed"
    toolkit("pull", "run1", "-o", f"{folder}/runs/adb", *device)


def split_training(daemon: Daemon, folder: Path) -> None:
    """One layer of two trains on the phone: questions and answers travel beside the watching."""
    from toolkit.api.devices import open_device as open_place

    os.environ["TOOLKIT_DEVICE_ROOT"] = f"{folder}/root"
    settings = TrainSettings(steps=3, method="split", cut=1, learning_rate=0.01, threads=1)
    for spec, name in ((SPEC, "adb"), (f"{folder}/here", "here")):
        with open_place(spec) as device:
            device.deploy(f"{folder}/bundle", f"{folder}/data")
            run = device.train("run1", settings).with_computer(f"{folder}/bundle").wait()
            assert run.watching.computer.steps == 3
            run.pull(folder / "runs" / name, with_state=True)


CASES = {
    function.__name__: function
    for function in (
        shell,
        files,
        push,
        cut_push,
        cut_pull,
        full,
        full_start,
        hostile,
        train,
        commands,
        evaluate_cut,
        system_trace,
        refusals,
        server_states,
        real_training,
        split_training,
    )
}


def main() -> None:
    case, folder = CASES[sys.argv[1]], Path(sys.argv[2])
    os.environ["ANDROID_USER_HOME"] = str(folder / "android")
    os.environ["HOME"] = str(folder)  # a server writes its key there
    daemon, server = Daemon(), Server()
    if case in (full, full_start):
        mount_small(folder)
    daemon.start()
    try:
        if THROUGH_SERVER:
            server.start()
        case(daemon, folder)
    finally:
        daemon.kill()
        if THROUGH_SERVER:
            server.stop()


if __name__ == "__main__":
    main()
