"""Two runs side by side: the differences are those that were made."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

from tests.trace.synthetic import Recipe, records, to_line, write_trace
from toolkit.trace.analysis import Analysis, read_analysis
from toolkit.trace.comparison import compare_runs, summary_sentence
from toolkit.trace.comparison_summary import print_comparison

BASE = Recipe(steps=6, layers=3)


def run_with(tmp_path: Path, name: str, optimizer: int = 0, recipe: Recipe = BASE) -> Analysis:
    """A run whose optimizer state is larger by `optimizer` bytes in ledger and high-water mark."""
    path = tmp_path / name / "trace.jsonl"
    path.parent.mkdir()
    with path.open("wb") as file:
        for record in records(recipe):
            if record["type"] == "phase":
                record["ledger"]["optimizer"] += optimizer
                record["mem"]["hwm"] += optimizer // 1024
            if record["type"] in ("step", "end"):
                record["peak"] += optimizer // 1024
            if record["type"] == "run" and optimizer:
                record["settings"]["optimizer"] = "other"
            file.write(to_line(record))
    return read_analysis(path)


def test_a_run_is_like_itself(tmp_path: Path) -> None:
    run = run_with(tmp_path, "a")
    comparison = compare_runs(run, run)
    assert comparison.peak.difference == 0 and comparison.differences == []
    assert not comparison.exceeds(0)
    assert "in both runs" in summary_sentence(comparison)


def test_what_grew_is_named_first(tmp_path: Path) -> None:
    grown = 4 << 20
    comparison = compare_runs(run_with(tmp_path, "a"), run_with(tmp_path, "b", grown))
    assert comparison.peak.difference == grown
    assert (comparison.categories[0].name, comparison.categories[0].difference) == (
        "optimizer",
        grown,
    )
    assert all(c.difference == 0 for c in comparison.categories[1:])
    assert {c.difference for c in comparison.phase_peaks} == {grown}
    assert [d.name for d in comparison.differences] == ["optimizer"]
    assert comparison.exceeds(0.05) and not comparison.exceeds(0.2)
    assert "grew by 4.2 MB" in summary_sentence(comparison)
    shrunk = compare_runs(comparison.second, comparison.first)
    assert not shrunk.exceeds(0)
    assert "shrank by 4.2 MB" in summary_sentence(shrunk)


def test_operators_are_compared_a_step(tmp_path: Path) -> None:
    first = run_with(tmp_path, "a")
    path = tmp_path / "b.jsonl"
    with path.open("wb") as file:
        for record in records(BASE):
            if record.get("phase") == "backward":
                record["operators"]["attention_backward"]["ns"] += 2_000_000
            file.write(to_line(record))
    comparison = compare_runs(first, read_analysis(path))
    change = comparison.operator_seconds[0]
    assert change.name == "attention_backward (backward)"
    assert abs(change.difference - 0.002 * BASE.layers) < 1e-9
    assert all(row.difference == 0 for row in comparison.operator_seconds[1:])
    without = replace(BASE, operators=False)
    older = read_analysis(write_trace(tmp_path / "old" / "trace.jsonl", without))
    assert compare_runs(older, first).operator_seconds == []


def test_approximate_gradients_are_called_so(tmp_path: Path) -> None:
    runs = [
        read_analysis(write_trace(tmp_path / name / "trace.jsonl", replace(BASE, lowering=name)))
        for name in ("mebp", "approx-bp")
    ]
    comparison = compare_runs(*runs)
    [row] = [row for row in comparison.differences if row.name == "lowering"]
    assert (row.before, row.after) == ("mebp", "approx-bp (approximate gradients)")
    shown = StringIO()
    print_comparison(Console(file=shown, width=200), comparison)
    assert row.after in shown.getvalue()


def test_an_unknown_peak_never_passes(tmp_path: Path) -> None:
    path = tmp_path / "none" / "trace.jsonl"
    path.parent.mkdir()
    path.write_bytes(to_line(next(records(BASE))))
    comparison = compare_runs(run_with(tmp_path, "a"), read_analysis(path))
    assert comparison.exceeds(100)
    assert comparison.doubts == ["The second run is unfinished; its peak may come later."]


def test_json_and_terminal_take_everything(tmp_path: Path) -> None:
    hostile = "[red]x[/red]\x1b[31m<b>"
    first = run_with(tmp_path, "a")
    other = replace(BASE, model=hostile, steps=3, status=None, swap=True, hwm_reset=False)
    second = read_analysis(write_trace(tmp_path / "c" / "trace.jsonl", other))
    comparison = compare_runs(first, second)
    json.dumps(comparison.to_json(), allow_nan=False)
    out = StringIO()
    print_comparison(Console(file=out, width=200, color_system=None), comparison)
    assert "[red]x[/red]" in out.getvalue() and "\x1b" not in out.getvalue()
    assert len(comparison.doubts) == 3


def test_that_a_run_was_resumed_is_no_setting(tmp_path: Path) -> None:
    paths = []
    for name, resume, place in (("a", False, "ram"), ("b", True, "spill")):
        lines = list(records(BASE))
        lines[0]["settings"] |= {"resume": resume, "checkpoints": "auto"}
        lines[0]["checkpoints"] = {"place": place}
        path = tmp_path / name / "trace.jsonl"
        path.parent.mkdir()
        path.write_bytes(b"".join(to_line(record) for record in lines))
        paths.append(read_analysis(path))
    differences = [(d.name, d.before, d.after) for d in compare_runs(*paths).differences]
    assert differences == [("checkpoints kept in", "ram", "spill")]
