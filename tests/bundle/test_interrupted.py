"""An export that is killed, stopped or out of space leaves nothing that looks complete."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.tiny import tiny_config
from toolkit.bundle import output
from toolkit.bundle.adapter import LoraSettings
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.bundle.layout import parameter_shapes
from toolkit.errors import ToolkitError
from toolkit.programs import Programs
from toolkit.sources.random import RandomSource

SETTINGS = ExportSettings(LoraSettings(4, 8.0, ("q_proj",)), (8,))
# The child exports without lowering and pauses in the middle of the weights.
CHILD = """
import signal, sys, time
from pathlib import Path
import toolkit.bundle.export as export
from tests.bundle.test_interrupted import SETTINGS, source
from toolkit.cli.main import _terminated
from toolkit.programs import Programs
signal.signal(signal.SIGTERM, _terminated)
signal.signal(signal.SIGINT, signal.default_int_handler)
export.build_programs = lambda *a, **k: Programs(b"x", {})
class Slow:
    count = 0
    def stage(self, text, total=0):
        print(text, flush=True)
    def advance(self, count):
        self.count += 1
        if self.count == 20:
            print("pausing", flush=True)
            time.sleep(600)
export.export_bundle(source(), Path(sys.argv[1]), SETTINGS, Slow())
"""


def source():
    config = tiny_config("llama")
    return RandomSource(config, parameter_shapes(config), "tiny", 0)


@pytest.fixture(autouse=True)
def no_lowering(monkeypatch):
    monkeypatch.setattr(
        "toolkit.bundle.export.build_programs", lambda *_a, **_k: Programs(b"x", {})
    )


def start_child(target: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    for line in process.stdout:
        if line.startswith("pausing"):
            return process
    raise AssertionError("the child ended early")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_export_leaves_the_old_bundle(tmp_path, number):
    target = tmp_path / "bundle"
    export_bundle(source(), target, SETTINGS)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    process = start_child(target)
    leftovers = [path for path in tmp_path.iterdir() if path != target]
    assert len(leftovers) == 1
    with pytest.raises(ToolkitError, match="not a bundle"):
        Bundle.open(leftovers[0])
    process.send_signal(number)
    process.wait(timeout=30)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    left = [path for path in tmp_path.iterdir() if path != target]
    assert left == (leftovers if number == signal.SIGKILL else [])


def test_the_next_export_removes_what_a_killed_one_left(tmp_path):
    target = tmp_path / "bundle"
    process = start_child(target)
    process.kill()
    process.wait(timeout=30)
    (leftover,) = tmp_path.iterdir()
    hour_ago = time.time() - 3600
    os.utime(leftover, (hour_ago, hour_ago))
    export_bundle(source(), target, SETTINGS)
    assert list(tmp_path.iterdir()) == [target]


def test_an_export_that_is_still_running_is_left_alone(tmp_path):
    target = tmp_path / "bundle"
    process = start_child(target)
    try:
        (running,) = tmp_path.iterdir()
        hour_ago = time.time() - 3600
        os.utime(running, (hour_ago, hour_ago))
        export_bundle(source(), target, SETTINGS)
        assert running.exists()
    finally:
        process.kill()
        process.wait(timeout=30)


def can_mount() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


FULL_DISK = """
mount -t tmpfs -o size=200k none "$1" &&
exec "$2" -m pytest -W ignore -p no:cacheprovider -o python_functions=full_disk "$3"
"""


@pytest.mark.skipif(not can_mount(), reason="needs a private mount namespace (unshare -m)")
def test_a_full_disk(tmp_path):
    """Runs `full_disk` below on a file system of 200 KB of its own."""
    script = ["unshare", "-m", "bash", "-c", FULL_DISK, "-", tmp_path, sys.executable, __file__]
    result = subprocess.run(
        script,
        env={**os.environ, "TOOLKIT_TEST_FULL_DISK": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def full_disk(monkeypatch):
    folder = Path(os.environ["TOOLKIT_TEST_FULL_DISK"])
    with pytest.raises(ToolkitError, match="MB free, the bundle needs"):
        export_bundle(source(), folder / "bundle", SETTINGS)
    monkeypatch.setattr("toolkit.bundle.export.check_space", lambda *_arguments: None)
    with pytest.raises(ToolkitError, match="No space left on device"):
        export_bundle(source(), folder / "bundle", SETTINGS)
    assert list(folder.iterdir()) == []


def test_what_fails_midway_is_cleared_away(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError("in the middle")

    monkeypatch.setattr("toolkit.bundle.export._write_adapter", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        export_bundle(source(), tmp_path / "bundle", SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_targets_that_are_not_directories(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ToolkitError, match="not a directory"):
        output.check_target(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ToolkitError, match="not a directory"):
        output.check_target(tmp_path / "link")
    (tmp_path / "empty").mkdir()
    output.check_target(tmp_path / "empty")
    output.check_target(tmp_path / "new")
