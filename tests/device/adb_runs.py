"""Cases against a real daemon: runs that are started, watched and lost sight of."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.device.adb_daemon import Daemon
from tests.device.adb_phone import (
    SPEC,
    phone,
    refused,
    toolkit,
)
from tests.support.fake_system_trace import FAKE_SYSTEM_TRACE, write_fake_atrace
from tests.support.fake_trainer import ADAPTER, write_fake_bundle, write_fake_runtime
from tests.support.processes import processes_with, wait_for
from toolkit import __version__
from toolkit.device import DeviceLost
from toolkit.device.commands import run_trainer
from toolkit.device.fetch import pull_run
from toolkit.device.run_start import start
from toolkit.device.runs import attach, follow
from toolkit.device.runtime import deploy_runtime
from toolkit.settings.training import TrainSettings


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
