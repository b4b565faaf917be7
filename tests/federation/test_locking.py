"""A federation's folder belongs to one process at a time."""

import fcntl
import os
import subprocess
import sys
import threading

import pytest

import toolkit
from tests.federation.test_failures import Seen
from toolkit.errors import ToolkitError
from toolkit.federation import locking
from toolkit.federation.locking import alone


def test_a_folder_is_left_to_the_one_that_writes_it(tmp_path):
    out = tmp_path / "new/out"
    (tmp_path / "link").symlink_to(out)
    for path in (out, tmp_path / "link"):
        with (
            alone(out),
            pytest.raises(ToolkitError, match=f"process {os.getpid()} still writes {path}"),
            alone(path),
        ):
            pass
    assert not list((tmp_path / "new").iterdir())
    with alone(out):
        timer = threading.Timer(0.2, (tmp_path / "new/.out.lock").unlink)
        timer.start()
        with alone(out, 5.0):  # waited for, and taken anew once its holder removed it
            pass


def test_a_file_that_its_holder_removed_before_it_was_locked_is_no_lock(tmp_path, monkeypatch):
    """Else two would hold one each: the file that is gone, and the one that is there now."""
    path, flock = tmp_path / ".out.lock", fcntl.flock

    def late(file, how):
        path.unlink()
        path.touch()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert locking._locked(path) is None
    monkeypatch.setattr(fcntl, "flock", flock)
    with alone(tmp_path / "out"):
        pass


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from toolkit.federation.locking import alone\n"
        "with alone(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")]).returncode == -9
    assert (tmp_path / ".out.lock").exists()
    with alone(tmp_path / "out"):
        pass


def test_a_second_resume_beside_a_living_one_changes_nothing(lab, tmp_path):
    config, out, seen = lab.config(tmp_path / "lab.yaml", "a", evaluate="off"), tmp_path / "out", []

    def act(number):
        before = sorted(out.rglob("*"))
        with pytest.raises(ToolkitError, match=f"still writes {out}") as error:
            toolkit.federate(config, out, resume=True)
        assert sorted(out.rglob("*")) == before
        seen.append(error.value)

    assert len(toolkit.federate(config, out, shown=Seen(act)).rounds) == len(seen) == 2
    assert not (tmp_path / ".out.lock").exists()
