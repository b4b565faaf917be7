"""Runs on a device, with a stand-in for the trainer on this machine."""

import subprocess
import time

import pytest

from tests.support.fake_trainer import write_fake_runtime
from tests.support.processes import wait_for
from toolkit import __version__
from toolkit.device.local import LocalDevice
from toolkit.device.run_start import start
from toolkit.device.runs import Run, attach, follow
from toolkit.device.runtime import check_version, deploy_runtime, find_runtime
from toolkit.errors import ToolkitError


@pytest.fixture
def device(tmp_path):
    with LocalDevice(tmp_path / "root with space") as device:
        yield device


@pytest.fixture
def runtime(device, tmp_path):
    folder = write_fake_runtime(tmp_path / "runtime", version=__version__)
    return deploy_runtime(device, folder, "x86_64")


def steps_of(run):
    return [record["step"] for record in follow(run) if record and record["type"] == "step"]


def wait_until_ended(run):
    for _ in range(100):
        if not run.alive():
            return
        time.sleep(0.1)
    raise AssertionError("the trainer did not end")


def test_a_run_is_followed_to_its_end(device, runtime):
    run = start(device, runtime, "run1", ["--steps", "5", "--lr", "0"], resume=False)
    records = [record for record in follow(run) if record]
    assert [record["type"] for record in records] == ["run", *["step"] * 5, "end"]
    assert run.exit_code() == 0 and not run.alive()


def test_the_runtime_is_found_again(device, runtime):
    assert find_runtime(device) == runtime
    assert check_version(device, runtime)["abi"] == "x86_64"


def test_a_stop_ends_at_a_step_and_resume_goes_on(device, runtime):
    run = start(device, runtime, "run1", ["--steps", "60", "--lr", "0"], resume=False)
    seen = []
    for record in follow(run):
        if record and record["type"] == "step":
            seen.append(record["step"])
            run.request_stop()
    assert seen == list(range(1, len(seen) + 1)) and len(seen) < 60
    resumed = start(device, runtime, "run1", ["--steps", "60", "--lr", "0"], resume=True)
    assert steps_of(resumed) == list(range(len(seen) + 1, 61))


def test_what_became_of_a_run_is_seen_without_reading_its_trace(device, runtime):
    run = start(device, runtime, "run1", ["--steps", "60", "--lr", "0"], resume=False)
    assert run.status() == "running"
    wait_for(lambda: device.read(f"{run.path}/trace.jsonl").count(b"step"))
    run.request_stop()
    wait_until_ended(run)
    assert run.status() == "stopped" and run.trace_offset == 0
    device.remove(f"{run.path}/exit")  # nobody saw it end
    assert run.status() == "stopped"
    refused = start(device, runtime, "run1", ["--steps", "60", "--lr", "1.0"], resume=True)
    wait_until_ended(refused)
    assert run.status() == "failed"
    short = start(device, runtime, "run2", ["--steps", "2", "--lr", "0"], resume=False)
    wait_until_ended(short)
    assert short.status() == "completed"
    killed = start(device, runtime, "run3", ["--steps", "5", "--lr", "3.0"], resume=False)
    wait_until_ended(killed)
    assert killed.status() == "failed"


def test_attaching_shows_a_run_from_its_start(device, runtime):
    run = start(device, runtime, "run1", ["--steps", "3", "--lr", "0"], resume=False)
    wait_until_ended(run)
    assert steps_of(attach(device, "run1")) == [1, 2, 3]
    with pytest.raises(ToolkitError, match="no run 'run2'"):
        attach(device, "run2")


def test_existing_and_running_names_are_refused(device, runtime):
    run = start(device, runtime, "run1", ["--steps", "50", "--lr", "0"], resume=False)
    assert run.alive()
    with pytest.raises(ToolkitError, match="'run1' exists"):
        start(device, runtime, "run1", ["--steps", "1"], resume=False)
    with pytest.raises(ToolkitError, match="still going"):
        start(device, runtime, "run1", ["--steps", "1"], resume=True)
    run.request_stop()
    wait_until_ended(run)
    with pytest.raises(ToolkitError, match="to resume"):
        start(device, runtime, "run2", ["--steps", "1"], resume=True)


def test_a_pid_of_another_process_is_not_our_trainer(device, runtime):
    run = start(device, runtime, "run1", ["--steps", "1", "--lr", "0"], resume=False)
    wait_until_ended(run)
    with subprocess.Popen(["sleep", "60"]) as other:
        device.write(f"{run.path}/pid", str(other.pid).encode())
        assert not run.alive()
        other.kill()
    for garbage in (b"", b"-1", b"0", b"1;id", b"../1", b"9" * 30):
        device.write(f"{run.path}/pid", garbage)
        assert not run.alive()


@pytest.mark.parametrize(
    ("lr", "reason"),
    [
        ("1.0", "the bundle is for sequences of 16. Make data of that length"),
        ("2.0", "storage is full. Free some space"),
        ("3.0", "the system killed the trainer (signal 9), most likely for want of memory"),
    ],
)
def test_why_a_trainer_died(device, runtime, lr, reason):
    run = start(device, runtime, "run1", ["--steps", "5", "--lr", lr], resume=False)
    list(follow(run))
    assert run.failure() == reason
    assert run.discard_if_refused() == (lr == "1.0")


def test_a_trainer_outlives_its_supervisor(device, runtime):
    """Killed alone, the shell that waits does not make the run look dead."""
    run = start(device, runtime, "run1", ["--steps", "40", "--lr", "0"], resume=False)
    wait_for(lambda: device.read(f"{run.path}/trainer.pid"))
    device.check(f"kill -9 $(cat '{run.path}/pid')")
    assert run.alive()
    with pytest.raises(ToolkitError, match="still going"):
        start(device, runtime, "run1", ["--steps", "40"], resume=True)
    run.request_stop()
    records = [record for record in follow(run) if record]
    assert records[-1]["status"] == "stopped"
    wait_until_ended(run)


def test_a_run_is_not_taken_for_one_whose_name_begins_alike(device, runtime):
    run = start(device, runtime, "run12", ["--steps", "40", "--lr", "0"], resume=False)
    other = Run(device, "run1")
    device.make_directory(other.path)
    device.check(f"cp '{run.path}/pid' '{other.path}/pid'")
    assert run.alive() and not other.alive()
    run.request_stop()
    wait_until_ended(run)


def test_a_run_that_failed_in_its_first_step_stays(device, runtime):
    """The trainer had accepted it: its trace is what one wants to look at."""
    run = start(device, runtime, "run1", ["--steps", "5", "--lr", "1.0"], resume=False)
    wait_until_ended(run)
    device.write(f"{run.path}/adapter_config.json", b"{}")
    assert not run.discard_if_refused() and run.exists()
    device.remove(f"{run.path}/adapter_config.json")
    assert run.discard_if_refused() and not run.exists()


def test_a_folder_that_was_given_up_does_not_take_the_name(device, runtime):
    """A command that was cut off between making the folder and writing into it."""
    path = Run(device, "run1").path
    device.make_directory(path)
    with pytest.raises(ToolkitError, match="'run1' exists"):
        start(device, runtime, "run1", ["--steps", "1", "--lr", "0"], resume=False)
    device.check(f"touch -d '2 minutes ago' '{path}'")
    run = start(device, runtime, "run1", ["--steps", "1", "--lr", "0"], resume=False)
    assert steps_of(run) == [1]


def test_a_log_is_shown_without_control_characters(device, runtime):
    run = start(device, runtime, "run1", ["--steps", "1", "--lr", "1.0"], resume=False)
    wait_until_ended(run)
    device.write(f"{run.path}/trainer.log", b"error: \x1b[31mred\xff\n")
    assert run.failure() == "?[31mred\ufffd"


def test_damaged_trace_lines_are_left_out(device):
    run = Run(device, "run1")
    device.make_directory(run.path)
    written = b'{"type":"run"}\nnonsense\n[1]\n{"type":5}\n{"type":"st'
    device.write(f"{run.path}/trace.jsonl", written)
    assert run.records() == [{"type": "run"}]
    device.check(f"printf 'ep\"}}\\n' >> '{run.path}/trace.jsonl'")
    assert run.records() == [{"type": "step"}]


def test_a_trace_is_read_again_from_where_a_line_begins(device):
    """What a killed trainer left of a line goes with it."""
    run = Run(device, "run1")
    device.make_directory(run.path)
    device.write(f"{run.path}/trace.jsonl", b'{"type":"run"}\n{"type":"step"}\n{"type":"st')
    assert run.records() == [{"type": "run"}, {"type": "step"}]
    run.rewind(15, 0)
    assert run.records() == [{"type": "step"}]


def test_versions_are_compared_and_both_named(device, tmp_path):
    folder = write_fake_runtime(tmp_path / "old", version="0.0.9")
    with pytest.raises(ToolkitError, match=rf"version 0\.0\.9 .* this toolkit is {__version__}"):
        deploy_runtime(device, folder, "x86_64")


def test_a_runtime_that_does_not_run_is_an_error(device, tmp_path):
    folder = write_fake_runtime(tmp_path / "broken", version="x")
    (folder / "trainer").write_text("#!/nonexistent\n")
    with pytest.raises(ToolkitError, match="does not run on device local"):
        deploy_runtime(device, folder, "x86_64")
