"""Pulling runs that keep adapters by their steps: the best one, and those of the last saves."""

import os
import shutil

import pytest

from tests.device.test_fetch import FILES
from toolkit.device.fetch import pull_run
from toolkit.device.local import LocalDevice
from toolkit.errors import ToolkitError

ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "root/runs/run1"
    folder.mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def device(run, tmp_path):
    with LocalDevice(tmp_path / "root") as device:
        yield device


def keep(run, folder, step, content):
    path = run / folder / f"step-{step}"
    path.mkdir(parents=True)
    (path / ADAPTER).write_bytes(content)


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_best_adapter_comes_instead_of_the_last(device, run, tmp_path):
    """The newest of two is the best: the other one is there until a state names the newest."""
    target = tmp_path / "runs/run1"
    for step in (8, 40):
        keep(run, "best", step, b"best" * step)
    (run / "best/step-50").mkdir()
    pulled = pull_run(device, "run1", target)
    assert tree(target) == FILES | {ADAPTER: b"best" * 40}
    assert (pulled.best_step, pulled.left) == (40, [])
    assert pulled.files[ADAPTER] == 160
    shutil.rmtree(run / "best")
    assert pull_run(device, "run1", target).best_step is None
    assert tree(target) == FILES


def test_checkpoints_come_along_with_what_peft_needs(device, run, tmp_path):
    target = tmp_path / "runs/run1"
    for step in (20, 100, 3):
        keep(run, "checkpoints", step, b"%d" % step)
    (run / "checkpoints/step-4").mkdir()  # a kill came between
    pulled = pull_run(device, "run1", target)
    expected = {}
    for step in (3, 20, 100):
        expected[f"checkpoints/step-{step}/{ADAPTER}"] = b"%d" % step
        expected[f"checkpoints/step-{step}/adapter_config.json"] = FILES["adapter_config.json"]
    assert tree(target) == FILES | expected
    assert [name for name in pulled.files if name not in FILES] == [
        f"checkpoints/step-{step}/{ADAPTER}" for step in (3, 20, 100)
    ]
    # The same run later: some are gone, one is new, and what is not ours stays.
    shutil.rmtree(run / "checkpoints/step-3")
    keep(run, "checkpoints", 120, b"120")
    (target / "checkpoints/step-20/notes.txt").write_bytes(b"mine")
    (target / "checkpoints/step-3/notes.txt").write_bytes(b"mine")
    pull_run(device, "run1", target)
    steps = {path.name for path in (target / "checkpoints").iterdir()}
    assert steps == {"step-3", "step-20", "step-100", "step-120"}
    assert [path.name for path in (target / "checkpoints/step-3").iterdir()] == ["notes.txt"]
    assert (target / "checkpoints/step-20/notes.txt").exists()
    shutil.rmtree(run / "checkpoints")
    for step in (3, 20):
        (target / f"checkpoints/step-{step}/notes.txt").unlink()
    pull_run(device, "run1", target)
    assert tree(target) == FILES and not (target / "checkpoints").exists()


def test_what_is_kept_may_go_while_it_is_pulled(device, run, tmp_path):
    """A run that goes on removes its oldest checkpoint, and the best for a better one."""
    for step in (2, 4):
        keep(run, "checkpoints", step, b"%d" % step)
    keep(run, "best", 2, b"of two")
    pull = device.pull

    def pulling(path, sink, offset, length, on_bytes):
        if "best/step-2/" in path:
            shutil.rmtree(run / "best/step-2")
            keep(run, "best", 6, b"of six")
            shutil.rmtree(run / "checkpoints/step-2")
            keep(run, "checkpoints", 6, b"6")
        pull(path, sink, offset, length, on_bytes)

    device.pull = pulling
    pulled = pull_run(device, "run1", tmp_path / "out")
    assert pulled.best_step == 6 and (tmp_path / "out" / ADAPTER).read_bytes() == b"of six"
    assert sorted(path.name for path in (tmp_path / "out/checkpoints").iterdir()) == [
        "step-4",
        "step-6",
    ]
    assert set(pulled.files) == set(FILES) | {f"checkpoints/step-{n}/{ADAPTER}" for n in (4, 6)}


@pytest.mark.parametrize("name", ["step-", "step-01", "step--1", "step-1x", "step-1/deep", "x"])
def test_other_names_of_what_is_kept_stay(device, run, tmp_path, name):
    for folder in ("best", "checkpoints"):
        (run / folder / name).mkdir(parents=True)
        (run / folder / name / ADAPTER).write_bytes(b"evil")
        (run / folder / "step-7").mkdir()
        (run / folder / "step-7" / ADAPTER).symlink_to("/etc/passwd")
    pulled = pull_run(device, "run1", tmp_path / "out")
    assert tree(tmp_path / "out") == FILES and pulled.best_step is None


def test_what_is_kept_has_a_limit_and_goes_through_no_symlink(device, run, tmp_path):
    keep(run, "checkpoints", 1, b"1")
    os.truncate(run / "checkpoints/step-1" / ADAPTER, 1 << 40)
    with pytest.raises(ToolkitError, match=f"checkpoints/step-1/{ADAPTER} .* more than the"):
        pull_run(device, "run1", tmp_path / "out")
    os.truncate(run / "checkpoints/step-1" / ADAPTER, 1)
    pull_run(device, "run1", tmp_path / "out")
    shutil.move(tmp_path / "out/checkpoints", tmp_path / "elsewhere")
    (tmp_path / "out/checkpoints").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path / "elsewhere")
    with pytest.raises(ToolkitError, match="checkpoints is a symbolic link"):
        pull_run(device, "run1", tmp_path / "out")
    assert tree(tmp_path / "elsewhere") == before
    # Nor is a link to a folder on the device taken for one.
    shutil.move(run / "checkpoints", tmp_path / "there")
    (run / "checkpoints").symlink_to(tmp_path / "there")
    pulled = pull_run(device, "run1", tmp_path / "other")
    assert tree(tmp_path / "other") == FILES and pulled.left == ["checkpoints"]
