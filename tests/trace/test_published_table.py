"""Published tables with runs of ours beside the figures they belong to."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.trace.synthetic import Recipe, write_trace
from toolkit.errors import ToolkitError
from toolkit.trace.published import all_figures
from toolkit.trace.published_table import (
    find_runs,
    print_published,
    published_rows,
    read_runs,
    rows_to_json,
)

QWEN = {"model": "Qwen2.5-0.5B-Instruct", "steps": 3, "layers": 2}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    recipes = {
        "a/deep/mesp": Recipe(**QWEN, phone=True),
        "mebp": Recipe(**QWEN, lowering="mebp", seq_len=512),
        "smol": Recipe(steps=3, layers=2),
    }
    for name, recipe in recipes.items():
        write_trace(tmp_path / name / "trace.jsonl", recipe)
    return tmp_path


def test_runs_are_found_below_a_directory(runs: Path, tmp_path: Path) -> None:
    assert [p.parent.name for p in find_runs([runs])] == ["mesp", "mebp", "smol"]
    assert list(find_runs([runs / "mebp"])) == [runs / "mebp"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ToolkitError, match="no runs below"):
        list(find_runs([tmp_path / "empty"]))


def test_every_figure_is_there_and_runs_stand_beside_theirs(runs: Path) -> None:
    rows = published_rows(read_runs([runs]))
    assert [row.figure for row in rows[:-1]] == all_figures()
    beside = {
        (row.figure.source.partition(",")[0], row.figure.method, row.figure.seq_len): [
            run.run for run in row.measured
        ]
        for row in rows
        if row.figure and row.measured
    }
    assert beside == {
        ("MeSP", "MeSP", 256): ["mesp"],
        ("MeSP", "MeBP", 512): ["mebp"],
        ("MeBP", "MeBP", None): ["mebp"],
    }
    assert [run.run for run in rows[-1].measured] == ["smol"] and rows[-1].figure is None


def test_what_differs_in_the_measurement_is_said(runs: Path) -> None:
    rows = published_rows(read_runs([runs]))
    notes = {run.run: " ".join(run.notes) for row in rows for run in row.measured}
    assert "true peak" in notes["mesp"] and "did not run on a phone" not in notes["mesp"]
    assert "did not run on a phone" in notes["mebp"]
    assert "4 sequences" in notes["mesp"]
    mesp = next(run for row in rows for run in row.measured if run.run == "mesp")
    assert mesp.device == "Pixel 8" and mesp.date == "2025-11-22"


def test_terminal_and_json(runs: Path) -> None:
    rows = published_rows(read_runs([runs]))
    assert len(rows_to_json(rows)) == len(rows)
    out = StringIO()
    print_published(Console(file=out, width=160, color_system=None), rows)
    text = out.getvalue()
    assert "iPhone 17 Pro" in text and "Other models" in text and "sampled every 0.5 s" in text
    line = next(line for line in text.splitlines() if "136.2" in line)
    assert "Pixel 8, 2025-11-22" in line
