"""Commands that end with the side that started them."""

import shutil
import subprocess
import time

import pytest

from tests.support.processes import processes_with, wait_for
from toolkit.device.local import LocalDevice
from toolkit.device.shell import lifeline

SHELLS = [name for name in ("sh", "dash", "bash", "mksh") if shutil.which(name)]
# Android's shell is mksh, which keeps descriptors that `exec` opened from its children.


def begin(shell, command, on_loss="true"):
    """Start a command under a lifeline, both shells of this kind."""
    line = lifeline(command, on_loss).replace("setsid sh -c", f"setsid {shell} -c")
    return subprocess.Popen([shell, "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_keeps_its_output_and_code(shell):
    process = begin(shell, "cat; echo it\\'s; exit 7")
    assert process.stdout.read() == b"it's\n"
    assert process.wait(10) == 7
    process.stdin.close()


@pytest.fixture
def log(tmp_path):
    """Return a file that `tail -f` watches without end; its name finds the process."""
    (tmp_path / "log").write_text("watched\n" * 20)
    return str(tmp_path / "log")


@pytest.mark.parametrize("shell", SHELLS)
def test_everything_ends_when_the_input_does(shell, log, tmp_path):
    (tmp_path / "scratch").mkdir()
    process = begin(shell, f"tail -f '{log}' & exec tail -f '{log}'", f"rmdir '{tmp_path}/scratch'")

    def tails():
        return [line for line in processes_with(log).values() if line.startswith("tail")]

    wait_for(lambda: len(tails()) == 2)
    time.sleep(0.3)
    assert len(tails()) == 2, "they must run as long as the input is open"
    process.stdin.close()
    wait_for(lambda: not processes_with(log))
    assert not (tmp_path / "scratch").exists()
    process.wait(10)
    process.stdout.close()


def test_a_stream_that_is_left_ends_its_command(log, tmp_path):
    with LocalDevice(tmp_path / "root") as device:
        blocks = device.stream(lifeline(f"exec tail -f '{log}'"), input_open=True)
        next(blocks)
        assert processes_with(log)
        blocks.close()
        wait_for(lambda: not processes_with(log))
