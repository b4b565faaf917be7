"""The local device: shell, quoting and file operations against a real shell."""

import io
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.device import DeviceCommandError, DeviceLost, open_device
from toolkit.device.local import LocalDevice
from toolkit.device.shell import command_line, wrap
from toolkit.errors import ToolkitError


@pytest.fixture
def device(tmp_path):
    with LocalDevice(tmp_path / "root") as device:
        yield device


def nothing(_count):
    pass


def test_exit_codes_and_output(device):
    result = device.shell("echo out; echo err >&2; exit 7")
    assert (result.code, result.text) == (7, "out\nerr\n")
    assert device.shell("printf 'no newline'").output == b"no newline"
    assert device.shell("true").output == b""


def test_a_command_that_kills_its_shell_is_a_loss(device):
    with pytest.raises(DeviceLost):
        device.shell("kill -9 $$")


def test_ctrl_c_at_any_moment_is_not_heard_by_a_command(tmp_path):
    """Nor before it has a session of its own."""
    script = """
import os, signal, sys
from toolkit.device.local import LocalDevice
signal.signal(signal.SIGINT, lambda *_: None)
print("ready", flush=True)
with LocalDevice(sys.argv[1]) as device:
    for number in range(200):
        assert device.check(f"echo {number}").strip() == str(number)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # an interpreter that ends has no handler
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "root")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.0002)
    assert process.returncode == 0, process.communicate()[1]


def test_output_that_looks_like_a_marker_is_output(device):
    assert device.shell("echo toolkit-exit-0123456789abcdef:0; exit 5").code == 5
    with pytest.raises(DeviceLost):
        device.shell("echo toolkit-exit-0123456789abcdef:0; kill -9 $$")


def test_silence_is_a_loss(device):
    begin = time.monotonic()
    with pytest.raises(DeviceLost, match="no answer"):
        device.shell("sleep 60", timeout=0.3)
    assert time.monotonic() - begin < 10


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)))
def test_command_line_survives_the_shell(words):
    assert shlex.split(command_line("printf", *words)) == ["printf", *words]


@pytest.mark.parametrize(
    "word", ["a b", "it's", "$HOME", "`id`", "a;b", "a\nb", "*", "-n", "\\", '"', "ü", ""]
)
def test_words_reach_a_program_unchanged(device, word):
    assert device.shell(command_line("printf", "%s", word)).output == word.encode()


def test_nul_is_refused():
    with pytest.raises(ValueError):
        command_line("a\0b")


def test_a_large_stream_is_whole(device):
    data = bytes(range(256)) * 40000
    path = f"{device.root}/file"
    device.append(path, io.BytesIO(data), len(data), nothing)
    device.append(path, io.BytesIO(b"more"), 4, nothing)
    assert b"".join(device.stream(command_line("cat", path))) == data + b"more"
    assert device.read(path, len(data) - 1, 3) == data[-1:] + b"mo"
    sink = io.BytesIO()
    device.pull(path, sink, len(data), 4, nothing)
    assert sink.getvalue() == b"more"


def test_empty_files(device):
    path = f"{device.root}/empty"
    device.append(path, io.BytesIO(), 0, nothing)
    assert device.stat(path).size == 0
    device.pull(path, io.BytesIO(), 0, 0, nothing)


def test_a_failing_stream_raises(device):
    with pytest.raises(DeviceCommandError):
        list(device.stream("echo some; exit 3"))


def test_file_operations(device):
    root = device.root
    device.make_directory(f"{root}/a/b")
    device.write(f"{root}/a/b/it's", b"1")
    device.write(f"{root}/a/file", b"22")
    device.check(command_line("ln", "-s", "/etc/passwd", f"{root}/a/link"))
    entries = {entry.path.removeprefix(root): entry for entry in device.list(root, recursive=True)}
    assert {path: entry.kind for path, entry in entries.items()} == {
        "/a": "directory",
        "/a/b": "directory",
        "/a/b/it's": "file",
        "/a/file": "file",
        "/a/link": "symlink",
    }
    assert entries["/a/file"].size == 2
    assert [entry.name for entry in device.list(f"{root}/a/b")] == ["it's"]
    assert device.list(f"{root}/none") == []
    device.rename(f"{root}/a/file", f"{root}/a/b/it's")
    assert device.read(f"{root}/a/b/it's") == b"22"
    device.remove(f"{root}/a")
    assert device.stat(f"{root}/a") is None
    assert device.read(f"{root}/a") == b""


@pytest.mark.parametrize("path", ["/etc", "{root}", "{root}/../x", "{root}/a/../../x"])
def test_nothing_outside_the_root_is_removed(device, path):
    with pytest.raises(ValueError):
        device.remove(path.format(root=device.root))


def test_a_stream_holds_nothing_back_that_is_no_marker(device):
    """A progress line must be seen when it is printed, not with the next one."""
    blocks = device.stream("echo begin; exec sleep 600")
    assert next(blocks) == b"begin\n"
    blocks.close()
    command = wrap("true")
    for length in range(1, len(command.marker)):
        assert command.held(b"words\n" + command.marker[:length]) == length
    assert command.held(b"words\n") == command.held(b"") == 0
    assert command.held(b"x" + command.marker + b":127\n") == len(command.marker) + 5


def test_wrapping_ends_comments_and_here_documents():
    assert "\n)" in wrap("true # comment").line


@pytest.mark.parametrize("spec", ["", "-s", "a b", ":5555", ":5555x", "h:99999", "a;b", "x/y"])
def test_strange_specs_are_refused(spec):
    with pytest.raises(ToolkitError):
        open_device(spec)


def test_a_command_has_ended_when_the_whole_marker_is_there():
    command = wrap("true")
    end = b"output" + command.marker + b":127\n"
    assert command.ended(end)
    for length in range(len(end)):
        assert not command.ended(end[:length])


def test_a_folder_is_a_device_of_its_own(tmp_path, monkeypatch):
    """Named with a slash, beside the one in TOOLKIT_HOME."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    with open_device("./lab/a") as device:
        assert (device.spec, device.root) == ("./lab/a", str(tmp_path / "lab/a"))
        device.write(f"{device.root}/x", b"1")
    assert (tmp_path / "lab/a/x").is_file() and not (tmp_path / "home").exists()


def test_bytes_to_and_from_a_device_are_counted(tmp_path):
    with LocalDevice(tmp_path) as device:
        device.write(f"{device.root}/x", bytes(100_000))
        assert 100_000 <= device.traffic.sent < 102_000 and device.traffic.received < 1000
        device.read(f"{device.root}/x")
        assert 100_000 <= device.traffic.received < 101_000 and device.traffic.sent < 102_000
