"""`toolkit train` with trackers, its real trainer and TensorBoard's own reader."""

import json
import sys

import pytest
from typer.testing import CliRunner

from tests.support.bundles import export_with_tokenizer
from tests.tracking.reading import read_csv, read_tensorboard
from toolkit.cli.main import app


def toolkit(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == code, (words, result.output)
    return result


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """Return a home with bundle and data on this machine's device."""
    folder = tmp_path_factory.mktemp("tracked")
    bundle = export_with_tokenizer(folder / "bundle")
    text = folder / "book.txt"
    text.write_text("".join(f"hello number {i}, how are you doing today\n" for i in range(60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_HOME", str(folder / "home"))
        toolkit("data", text, "--tokenizer", bundle, "-o", folder / "data", "--validation", 0.2)
        toolkit("deploy", bundle, "--data", folder / "data")
    return folder / "home"


@pytest.fixture
def home(deployed, monkeypatch, tmp_path):
    monkeypatch.setenv("TOOLKIT_HOME", str(deployed))
    monkeypatch.chdir(tmp_path)
    return deployed


TRACKED = ("--csv", "steps.csv", "--tensorboard", "board")


def test_a_run_is_tracked_resumed_and_watched_again(home, tmp_path):
    words = ("--lr", 0.01, "--schedule", "linear", "--eval-every", 2)
    toolkit("train", "--out", "run1", "--steps", 4, *words, *TRACKED)
    said = toolkit("train", "--out", "run1", "--resume", "--steps", 6, *TRACKED).stderr
    assert "changed: steps 4 -> 6" in said
    trace = [json.loads(line) for line in (home / "runs/run1/trace.jsonl").open()]
    trained = {r["step"]: r for r in trace if r["type"] == "step"}
    held_out = {r["step"]: r["loss"] for r in trace if r["type"] == "evaluation"}
    assert set(trained) == set(range(1, 7)) and set(held_out) == {0, 2, 4, 6}
    rows, board = read_csv(tmp_path / "steps.csv"), read_tensorboard(tmp_path / "board/run1")
    assert set(rows) == set(board) == set(range(7))
    for step, record in trained.items():
        row = rows[step]
        assert (row["loss"], row["learning_rate"]) == (record["loss"], record["lr"])
        assert (row["grad_norm"], row["peak_bytes"]) == (record["grad_norm"], 1024 * record["peak"])
        assert row["tokens_per_second"] == pytest.approx(record["tokens"] / record["seconds"])
        assert row.get("held_out_loss") == held_out.get(step)
    for step, row in rows.items():
        assert board[step] == pytest.approx(row, rel=2**-23)  # events hold float32
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    toolkit("train", "--attach", "run1", *TRACKED)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    toolkit("train", "--attach", "run1", "--csv", "later.csv")
    assert (tmp_path / "later.csv").read_bytes() == (tmp_path / "steps.csv").read_bytes()


def test_another_run_does_not_take_its_place(home, tmp_path):
    toolkit("train", "--out", "a", "--steps", 1, *TRACKED)
    content = (tmp_path / "steps.csv").read_bytes()
    refused = toolkit("train", "--out", "b", "--steps", 1, *TRACKED, code=1).stderr
    assert "steps.csv has points of another run. Name another place, or remove it" in refused
    assert not (home / "runs/b").exists()
    toolkit("train", "--out", "b", "--steps", 1)
    for words in (("--attach", "b"), ("--out", "b", "--resume", "--steps", 2)):
        assert "points of another run" in toolkit("train", *words, *TRACKED, code=1).stderr
    steps = [r for r in (home / "runs/b/trace.jsonl").open() if '"type":"step"' in r]
    assert len(steps) == 1 and (tmp_path / "steps.csv").read_bytes() == content


def test_a_stopped_run_names_its_trackers(home, tmp_path):
    """What continues it continues them, too."""
    import toolkit as package

    class Once(package.CsvFile):
        """Asks for a stop as soon as it has something."""

        def flush(self) -> None:
            super().flush()
            run.stop()

    from toolkit.cli.train_watch import watch

    settings = package.TrainSettings(steps=100_000, trace="steps")
    with package.open_device() as device:
        run = device.train("long", settings, trackers=[Once("a file.csv")])
        watch(run.watching, None, as_json=True)
    assert run.status == "stopped" and run.watching.feed.words == "--csv 'a file.csv'"
    rows = read_csv(tmp_path / "a file.csv")
    assert list(rows) == list(range(1, run.watching.end["steps"] + 1))


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_library_that_is_missing_is_named_before_anything_starts(home, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # what makes Python's own import fail
    for module in [m for m in sys.modules if m.startswith(f"{name}.")]:
        monkeypatch.setitem(sys.modules, module, None)
    error = toolkit("train", "--out", "none", "--steps", 1, f"--{name}", "x", code=1).stderr
    assert f"error: --{name} needs the library {name}. Install it: pip install" in error
    assert f'"toolkit[{name}]"' in error and not (home / "runs/none").exists()


def test_what_ends_with_the_command_takes_no_detach(home):
    result = toolkit("train", "--out", "n", "--steps", 1, "--detach", "--csv", "x.csv", code=2)
    said = " ".join(result.stderr.replace("│", " ").split())
    assert "--csv ends with this command, so it takes no --detach" in said
