"""The APK's engine, started as the app does: trains under Android's filter, ends with the app."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.android import app_filter
from tests.support.bundles import export_tiny
from toolkit.data.prepare import prepare_random
from toolkit.device import runtime_build
from toolkit.errors import ToolkitError
from toolkit.runtime import runtime_directory
from tools.android import engine

_CACHE = Path(__file__).resolve().parents[2] / ".cache/toolkit"
_FILTER = [sys.executable, Path(app_filter.__file__)]
_LOADERS = {"arm64-v8a": "libld-aarch64.1.so", "x86_64": "libld-x86-64.2.so"}
SETTINGS = {"steps": 8, "lr": 1e-3, "grad-accum": 2, "seed": 3, "save-every": 3, "threads": 2}


def built(abi):
    """Return the engine as it goes to phones over adb."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_CACHE", str(_CACHE))
        return runtime_build.build(abi)


def packed(abi, tmp_path_factory):
    """Return the APK's library folder of an ABI."""
    target = tmp_path_factory.mktemp("apk") / "lib" / abi
    engine.pack(built(abi), target, abi)
    return target


@pytest.fixture(scope="module")
def unmended():
    return built("x86_64")


@pytest.fixture(scope="module")
def x86_64(tmp_path_factory):
    return packed("x86_64", tmp_path_factory)


@pytest.fixture(scope="module")
def arm64(tmp_path_factory):
    for program in ("aarch64-linux-gnu-g++", "qemu-aarch64"):
        if shutil.which(program) is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{program} is missing")
            pytest.skip(f"{program} is missing")
    return packed("arm64-v8a", tmp_path_factory)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    export_tiny(folder / "bundle", "llama", generation=True)
    prepare_random(8, 24, 150, 0, folder / "data")
    return folder


@pytest.fixture(scope="module")
def reference(model):
    """Return the adapter that this machine's command line trains."""
    out = model / "reference"
    words = [f"--{name}={value}" for name, value in options(model, out).items()]
    subprocess.run([runtime_directory("x86_64") / "trainer", "train", *words], check=True)
    return adapter(out)


def adapter(out):
    return (out / "adapter_model.safetensors").read_bytes()


def options(model, out):
    inputs = {"bundle": model / "bundle", "data": model / "data/train.ptd", "out": out}
    return {**inputs, **SETTINGS}


def command(folder, *words):
    """Return how the app starts its engine."""
    loader = folder / _LOADERS[folder.name]
    return [loader, "--library-path", folder, folder / engine.PROGRAM, *words]


class Driven:
    """A run that is driven as the app drives it."""

    def __init__(self, start, settings, stderr=None):
        pipe, words = subprocess.PIPE, [str(word) for word in start]
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=stderr, text=True)
        for name, value in settings.items():
            self.say(f"option {name} {value}")
        self.first = self.ask("open")

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line):
        """Say a line and return the words of the answer."""
        self.say(line)
        return self.process.stdout.readline().split()

    def train(self, until=None):
        """Step to a step or to the end; return the last answer."""
        answer = self.first
        while answer[0] == "progress" and answer[9] == "1" and answer[1] != str(until):
            answer = self.ask("step")
        return answer

    def end(self):
        self.process.stdin.close()
        return self.process.wait(60)


def test_trains_saves_and_resumes_under_the_filter_to_the_command_lines_bits(
    x86_64, model, reference, tmp_path
):
    start = [*_FILTER, *command(x86_64, "train", "--driven")]
    run = Driven(start, options(model, tmp_path / "run"))
    assert run.train(until=4)[1] == "4"
    run.say("note paused by the user")
    run.say("stop")
    answer = run.ask("step")
    assert answer[1] == "4" and answer[9:] == ["0", "1"]
    assert run.process.wait(60) == 0
    resumed = Driven(start, {**options(model, tmp_path / "run"), "resume": "true"})
    assert resumed.first[1] == "4"
    assert resumed.train()[1] == "8"
    assert resumed.process.wait(60) == 0
    assert adapter(tmp_path / "run") == reference
    trace = (tmp_path / "run/trace.jsonl").read_text()
    assert '"event":"paused","detail":"by the user"' in trace
    assert '"version"' in subprocess.run(
        [*_FILTER, *command(x86_64, "info")], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip


def generated(start, model, log=None):
    """Return what the engine says of one reply."""
    words = [*start, "generate", f"--bundle={model / 'bundle'}", "--max-tokens=3", "--threads=1"]
    told = subprocess.run(
        [str(word) for word in words],
        input="reply 5 6 7\n",
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]


def tokens(told):
    return [line["token"] for line in told if line["type"] == "token"]


def test_generates_under_the_filter_what_the_command_line_does(x86_64, model):
    own = generated([runtime_directory("x86_64") / "trainer"], model)
    told = generated([*_FILTER, *command(x86_64)], model)
    assert told[0]["type"] == "ready" and told[-1]["reason"] == "length"
    assert len(tokens(told)) == 3 and tokens(told) == tokens(own)


def test_the_same_files_unmended_die_under_the_filter(unmended):
    loader = unmended / "ld-linux-x86-64.so.2"
    words = [loader, "--library-path", unmended, unmended / "trainer", "info"]
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
    filtered = subprocess.run([*_FILTER, *words], check=False, capture_output=True)
    assert filtered.returncode == -signal.SIGSYS


def test_arm64_trains_with_calls_that_apps_may_make(arm64, model, tmp_path):
    start = ["qemu-aarch64", "-strace", *command(arm64, "train", "--driven")]
    settings = {**options(model, tmp_path / "run"), "steps": 3, "save-every": 1}
    log = tmp_path / "calls"
    with log.open("w") as file:
        run = Driven(start, settings, stderr=file)
        assert run.train()[1] == "3"
        assert run.process.wait(60) == 0
    made = set(re.findall(r"^\d+ (\w+)\(", log.read_text(), re.MULTILINE))
    assert {"openat", "renameat", "clone", "mmap"} <= made
    assert made <= app_filter.allowed("arm64")
    assert "Unknown syscall" not in log.read_text()


def test_arm64_generates_with_calls_that_apps_may_make(arm64, model, tmp_path):
    log = tmp_path / "calls"
    with log.open("w") as file:
        told = generated(["qemu-aarch64", "-strace", *command(arm64)], model, log=file)
    assert len(tokens(told)) == 3
    made = set(re.findall(r"^\d+ (\w+)\(", log.read_text(), re.MULTILINE))
    assert "mmap" in made and made <= app_filter.allowed("arm64")
    assert "Unknown syscall" not in log.read_text()


def test_ends_with_its_parent_also_when_that_is_killed(x86_64, model, tmp_path):
    settings = {**options(model, tmp_path / "run"), "steps": 10_000_000}
    orders = (
        "".join(f"option {name} {value}\n" for name, value in settings.items()) + "open\nstep\n"
    )
    parent = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdin.write(sys.argv[1].encode())\n"
        "child.stdin.flush()\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    words = [str(word) for word in command(x86_64, "train", "--driven")]
    process = subprocess.Popen(
        [sys.executable, "-c", parent, orders, *words], stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    assert Path(f"/proc/{child}").exists()
    process.kill()
    process.wait()
    wait_until_gone(child)


def wait_until_gone(pid):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    pytest.fail("the engine outlives its parent")


def test_a_driver_is_told_what_went_wrong(x86_64, model, tmp_path):
    start = command(x86_64, "train", "--driven")
    missing = Driven(start, {**options(model, tmp_path / "a"), "bundle": tmp_path / "no bundle"})
    assert missing.first[:2] == ["failed", "1"] and "bundle" in missing.first
    assert missing.process.wait(20) == 1
    wrong = Driven(start, {**options(model, tmp_path / "a"), "steps": "many"})
    assert wrong.first[:2] == ["failed", "2"]
    assert wrong.process.wait(20) == 2
    run = Driven(start, options(model, tmp_path / "a"))
    assert run.ask("sing")[:2] == ["failed", "2"]
    assert run.process.wait(20) == 2
    gone = Driven(start, options(model, tmp_path / "b"))
    assert gone.end() == 130


def test_a_glibc_whose_calls_are_not_found_fails_the_build(unmended, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_SYSCALL", b"\x0f\x34")
    with pytest.raises(ToolkitError, match="found were"):
        engine.pack(unmended, tmp_path / "lib", "x86_64")


def test_names_are_what_the_installer_unpacks_and_no_longer():
    files = ["ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2", "libc.so.6", "libstdc++.so.6"]
    for old in [*files, "libgcc_s.so.1", "libexecutorch.so"]:
        new = engine.app_name(old)
        assert re.fullmatch(r"lib[\w+.-]+\.so", new) and len(new) <= len(old)
    names = {"libc.so.6": "libc.6.so", "ld-linux-aarch64.so.1": "libld-aarch64.1.so"}
    before = b"\0libc.so.6\0/lib/libc.so.6\0ld-linux-aarch64.so.1\0"
    after = b"\0libc.6.so\0/lib/libc.so.6\0libld-aarch64.1.so\0\0\0\0"
    assert engine.renamed(before, names) == after
