"""Weights that cannot be read while a run goes on: a message and a state to resume from."""

import signal
import subprocess
import time

import pytest

from tests.runtime.running import error_of, flags, probe, probe_path, records, run, trainer

SHORTER = "became shorter while it was in use. Deploy the bundle again and resume"


@pytest.fixture
def numbers(tmp_path):
    """A file of the byte 1, 6 MiB long."""
    path = tmp_path / "numbers"
    path.write_bytes(b"\1" * (6 << 20))
    return path


def test_pages_that_cannot_be_read_are_zeros_and_an_error(numbers):
    """Two threads meet the missing pages at once; one in 64 bytes is added up."""
    command = [probe_path(), "unreadable", numbers]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.split() == [str((3 << 20) // 64), "0"]
    assert result.returncode == 1
    assert result.stderr == f"error: {numbers} {SHORTER}\n"


def test_weights_that_cannot_be_mapped_leave_nothing_behind(numbers):
    """Neither their neighbours' address space nor any of the 64 places that are kept track of."""
    *errors, grown, byte = probe("unmapped", numbers).decode().splitlines()
    no_room = f"cannot map {numbers}: Cannot allocate memory"
    many = "the weights of one method lie in more than 64 places of their file"
    assert len(errors) == 40
    assert all(no_room in error for error in errors[::2]), errors[0]
    assert all(error.startswith(many) for error in errors[1::2]), errors[1]
    assert int(grown) < 1024  # KiB; each mapping reserves 4 MiB
    assert byte == "1"


def test_other_pages_are_left_to_the_handler_of_before(numbers):
    command = [probe_path(), "foreign", numbers]
    result = subprocess.run([*command, "old"], capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (3, b"the handler of before\n")
    numbers.write_bytes(b"\1" * (1 << 20))
    result = subprocess.run([*command, "none"], capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (-signal.SIGBUS, b"")


def test_the_handler_of_before_is_there_again_afterwards():
    assert probe("kept-handler") == b"kept\n"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_file_that_is_cut_off_under_a_run(case, bundle_copy, tmp_path, threads, kept):
    base = bundle_copy / "base.ptd"
    whole = base.read_bytes()
    out = tmp_path / "run"
    options = case.options(out, bundle=bundle_copy, save_every=5, lr=0.01, threads=threads)
    words = [str(trainer()), "train", *flags(**{**options, "steps": 100000})]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)
    for line in process.stdout:
        if line.startswith("step 11/"):
            break
    with base.open("r+b") as file:
        file.truncate(int(kept * len(whole)))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    end = records(out, "end")[0]
    saved = end["steps"] // 5 * 5
    assert saved >= 10
    assert error == f"error: {base} {SHORTER} (the state of step {saved} is kept)\n"
    assert end["status"] == "failed" and error == f"error: {end['error']}\n"

    base.write_bytes(whole)
    steps = saved + 3
    run("train", **{**options, "steps": steps, "resume": True})
    straight = case.train(tmp_path / "straight", steps=steps, lr=0.01, threads=threads)
    assert (out / "state.bin").read_bytes() == (straight / "state.bin").read_bytes()


def test_an_evaluation_of_a_file_that_is_cut_off(case, bundle_copy, tmp_path):
    base = bundle_copy / "base.ptd"
    words = [str(trainer()), "evaluate", *flags(bundle=bundle_copy, data=case.data, threads=1)]
    sizes = iter(range(base.stat().st_size, 0, -4096))
    # Wherever the file ends once the evaluation has begun: a number of the whole, or this error.
    for delay in range(0, 30, 3):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(delay / 1000)
        with base.open("r+b") as file:
            file.truncate(next(sizes))
        _, error = process.communicate(timeout=60)
        assert process.returncode in (0, 1), (process.returncode, error)
        assert process.returncode == 0 or (error.startswith("error: ") and str(base) in error)
    assert str(base) in error_of("evaluate", bundle=bundle_copy, data=case.data)
