"""Pulling runs from devices that lie."""

import json
import os

import pytest

from toolkit.device import DeviceCommandError, DeviceLost
from toolkit.device.fetch import pull_run
from toolkit.device.local import LocalDevice
from toolkit.errors import ToolkitError


class Liar(LocalDevice):
    """A device that can damage, cut, lengthen or break off what it sends."""

    damage = 0
    break_at = None
    extra = b""

    def pull(self, path, sink, offset, length, on_bytes):
        if self.break_at is not None:
            super().pull(path, sink, offset, min(self.break_at, length), on_bytes)
            sink.flush()
            raise DeviceLost(self.spec, "cable pulled")
        super().pull(path, sink, offset, length, on_bytes)
        if self.damage and length:
            self.damage -= 1
            sink.seek(offset)
            sink.write(b"\0")

    def stream(self, command, timeout=30.0):
        yield from super().stream(command, timeout)
        if self.extra and command.startswith("tail") and "adapter_model" in command:
            yield self.extra


FILES = {
    "trace.jsonl": b'{"type":"run"}\n' * 1000,
    "adapter_model.safetensors": bytes(range(256)) * 3000,
    "adapter_config.json": b"{}",
    "trainer.log": b"",
}


@pytest.fixture
def device(tmp_path):
    with Liar(tmp_path / "root") as device:
        run = tmp_path / "root/runs/run1"
        run.mkdir(parents=True)
        for name, data in FILES.items():
            (run / name).write_bytes(data)
        (run / "state.bin").write_bytes(b"state")
        yield device


@pytest.fixture
def run(tmp_path):
    return tmp_path / "root/runs/run1"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_arrives_whole(device, tmp_path):
    target = tmp_path / "runs/run1"
    pulled = pull_run(device, "run1", target)
    assert files(target) == FILES
    assert pulled.files == {name: len(data) for name, data in FILES.items()}
    assert list(target.parent.iterdir()) == [target]
    pull_run(device, "run1", target, with_state=True)
    assert files(target) == FILES | {"state.bin": b"state"}


def test_the_same_run_is_brought_up_to_date(device, run, tmp_path):
    """The report and the state of before are of a shorter run; what is not ours stays."""
    target = tmp_path / "runs/run1"
    pull_run(device, "run1", target, with_state=True)
    (target / "report.html").write_text("of before")
    (target / "notes.txt").write_text("mine")
    with (run / "trace.jsonl").open("ab") as trace:
        trace.write(b'{"type":"step"}\n')
    pull_run(device, "run1", target)
    longer = FILES["trace.jsonl"] + b'{"type":"step"}\n'
    assert files(target) == FILES | {"trace.jsonl": longer, "notes.txt": b"mine"}


def test_what_a_computer_knows_of_a_split_run_comes_with_the_state(device, run, tmp_path):
    (run / "split").mkdir()
    for name in ("computer-2.pt", "computer-4.pt", "ask", "computer-4.pt.0123456789ab"):
        (run / "split" / name).write_bytes(name.encode())
    target = tmp_path / "runs/run1"
    assert pull_run(device, "run1", target).left == []
    assert not (target / "split").exists()
    pulled = pull_run(device, "run1", target, with_state=True)
    assert pulled.files["split/computer-4.pt"] == len("computer-4.pt")
    (run / "split/computer-2.pt").rename(run / "split/computer-6.pt")
    pull_run(device, "run1", target, with_state=True)
    kept = {path.name: path.read_bytes() for path in (target / "split").iterdir()}
    assert kept == {"computer-4.pt": b"computer-4.pt", "computer-6.pt": b"computer-2.pt"}
    pull_run(device, "run1", target)
    assert files(target) == FILES


@pytest.mark.parametrize("with_id", [True, False])
def test_two_runs_are_never_mixed(device, run, tmp_path, with_id):
    """Told apart by the id in settings.json, or by when the trace began."""
    other = run.with_name("run2")
    other.mkdir()
    for folder, seconds in ((run, 1795000000.25), (other, 1795000000.5)):
        start = {"type": "run", "time_unix": seconds if not with_id else 1}
        (folder / "trace.jsonl").write_text(json.dumps(start) + "\n")
        if with_id:
            settings = {"name": folder.name, "id": folder.name * 2}
            (folder / "settings.json").write_text(json.dumps(settings))
    target = tmp_path / "runs/r"
    pull_run(device, "run1", target)
    before = files(target)
    with pytest.raises(ToolkitError, match=f"{target} holds another run") as error:
        pull_run(device, "run2", target)
    assert "Name another folder with -o" in error.value.remedy
    assert ("run, run1" in error.value.cause) == with_id
    assert ("begun 2026-11-" in error.value.cause) != with_id
    assert files(target) == before
    pull_run(device, "run1", target)
    assert files(target) == before


def test_a_folder_of_something_else_is_refused(device, tmp_path):
    target = tmp_path / "photos"
    target.mkdir()
    pull_run(device, "run1", target)  # an empty one is as good as none
    (target / "trace.jsonl").unlink()
    with pytest.raises(ToolkitError, match="holds something else than a run"):
        pull_run(device, "run1", target)


def test_a_broken_pull_leaves_no_target_and_goes_on(device, tmp_path):
    target = tmp_path / "runs/run1"
    device.break_at = 10_000
    with pytest.raises(DeviceLost):
        pull_run(device, "run1", target)
    assert not target.exists()
    device.break_at = None
    pulled = pull_run(device, "run1", target)
    assert pulled.reused_bytes == 10_000
    assert files(target) == FILES


def test_damage_is_noticed(device, tmp_path):
    device.damage = 1
    pull_run(device, "run1", tmp_path / "one")
    assert files(tmp_path / "one") == FILES
    device.damage = 2
    with pytest.raises(DeviceCommandError, match=r"trace\.jsonl arrived damaged"):
        pull_run(device, "run1", tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_more_than_announced_is_refused(device, tmp_path):
    device.extra = b"x"
    with pytest.raises(DeviceCommandError, match="sent more than it announced"):
        pull_run(device, "run1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    [
        "evil.sh",
        "..\\evil",
        "a\nb",
        "81a4 5 5 trace.jsonl",
        "\x1b[31mred",
        "[bold]markup",
        ".bashrc",
        "trace.jsonl.exe",
        "$(touch pwned)",
        "-rf",
    ],
)
def test_other_names_stay_on_the_device(device, run, tmp_path, name):
    (run / name).write_bytes(b"evil")
    pulled = pull_run(device, "run1", tmp_path / "out")
    assert files(tmp_path / "out") == FILES
    assert all(left.isascii() and left.isprintable() for left in pulled.left)


@pytest.mark.parametrize("name", ["trace.jsonl", "adapter_config.json"])
@pytest.mark.parametrize("kind", ["symlink", "directory", "other"])
def test_only_regular_files_are_read(device, run, tmp_path, name, kind):
    (run / name).unlink()
    if kind == "symlink":
        (run / name).symlink_to("/etc/passwd")
    elif kind == "directory":
        (run / name).mkdir()
    else:
        os.mkfifo(run / name)
    with pytest.raises(ToolkitError, match=f"is a {kind} on device"):
        pull_run(device, "run1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_absurd_sizes_are_refused(device, run, tmp_path):
    os.truncate(run / "trace.jsonl", 1 << 40)
    with pytest.raises(ToolkitError, match="more than the"):
        pull_run(device, "run1", tmp_path / "out")


def test_nothing_is_written_through_a_local_symlink(device, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    target = tmp_path / "runs/run1"
    pull_run(device, "run1", target)
    (target / "trainer.log").unlink()
    (target / "trainer.log").symlink_to(victim)
    pull_run(device, "run1", target)
    assert victim.read_bytes() == b"precious"
    assert files(target) == FILES
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(ToolkitError, match="is not a folder"):
        pull_run(device, "run1", tmp_path / "link")


def test_a_growing_trace_is_taken_up_to_now(device, run, tmp_path):
    """The trace grows between the look at its size and the copy, as that of a running trainer."""
    inspect = device.list

    def listing(path, **kwargs):
        entries = inspect(path, **kwargs)
        with (run / "trace.jsonl").open("ab") as trace:
            trace.write(b'{"type":"step"}\n')
        return entries

    device.list = listing
    pull_run(device, "run1", tmp_path / "out")
    assert files(tmp_path / "out") == FILES


@pytest.mark.parametrize("name", ["..", "../run1", "a/b", "", ".", "-x", "a\nb"])
def test_names_of_runs_are_checked(device, tmp_path, name):
    with pytest.raises(ToolkitError, match="cannot name a run"):
        pull_run(device, name, tmp_path / "out")


def test_an_absent_run_is_named(device, tmp_path):
    with pytest.raises(ToolkitError, match=r"no run 'run2' .*Runs there: run1"):
        pull_run(device, "run2", tmp_path / "out")
