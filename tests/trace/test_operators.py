"""Time by operator: read, added up by phase, and absent from older traces."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from tests.trace.synthetic import Recipe, records, to_line, write_trace
from toolkit.trace import operators as operators_module
from toolkit.trace.analysis import Analysis, read_analysis
from toolkit.trace.narrative import paragraphs
from toolkit.trace.operators import NO_OPERATORS
from toolkit.trace.reader import read_trace
from toolkit.trace.trace import Trace

SMALL = Recipe(steps=3, layers=10)


def write(tmp_path: Path, run: list[dict]) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(to_line(record) for record in run))
    return path


def by_phase(trace: Trace) -> list[list[tuple[str, int, int]]]:
    found = trace.operators
    columns = (trace.phases["operators"].tolist(), trace.phases["operators_at"].tolist())
    phases = []
    for operators, at in zip(*columns, strict=True):
        codes = () if operators == NO_OPERATORS else found.lists[operators]
        rows = found.values[at : at + len(codes)].tolist()
        phases.append([(found.names[code], *row) for code, row in zip(codes, rows, strict=True)])
    return phases


def totals(analysis: Analysis) -> dict[tuple[str, str], tuple[int, float]]:
    return {(o.phase, o.operator): (o.calls, o.seconds) for o in analysis.timing.operators}


def test_every_operator_of_every_phase_arrives(tmp_path: Path) -> None:
    run = list(records(SMALL))
    expected = [
        [(name, time["calls"], time["ns"]) for name, time in r.get("operators", {}).items()]
        for r in run
        if r["type"] == "phase"
    ]
    assert by_phase(read_trace(write(tmp_path, run))) == expected
    backwards = read_trace(write(tmp_path, run[:1] + run[:0:-1]))
    assert by_phase(backwards) == expected


def test_times_are_added_up_by_phase(tmp_path: Path) -> None:
    run = list(records(SMALL))
    expected: dict = defaultdict(lambda: [0, 0])
    for record in run:
        for name, time in record.get("operators", {}).items():
            total = expected[record["phase"], name]
            total[0] += time["calls"]
            total[1] += time["ns"]
    analysis = read_analysis(write(tmp_path, run))
    found = totals(analysis)
    assert found.keys() == expected.keys()
    for key, (calls, ns) in expected.items():
        assert found[key] == (calls, pytest.approx(ns / 1e9)), key
    seconds = [total.seconds for total in analysis.timing.operators]
    assert seconds == sorted(seconds, reverse=True)
    backward = next(p for p in analysis.timing.phases if p.phase == "backward")
    largest = analysis.timing.operators[0]
    assert (largest.phase, largest.operator) == ("backward", "swiglu_mlp_backward")
    assert largest.share_of_phase == pytest.approx(largest.seconds / backward.seconds)
    assert any("swiglu_mlp_backward" in text for text in paragraphs(analysis))


def test_a_repeated_record_counts_once(tmp_path: Path) -> None:
    run = list(records(SMALL))
    once = totals(read_analysis(write(tmp_path, run)))
    assert totals(read_analysis(write(tmp_path, [r for r in run for _ in range(2)]))) == once


def test_older_traces_have_no_operators(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "trace.jsonl", Recipe(steps=3, layers=2, operators=False))
    analysis = read_analysis(path)
    assert analysis.timing.operators == []
    assert not analysis.trace.left_out
    assert all(not found for found in by_phase(analysis.trace))


def test_hostile_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are cleaned, odd values leave a line out, and what is kept is bounded."""
    monkeypatch.setattr(operators_module, "_MAX_LISTS", 3)
    monkeypatch.setattr(operators_module, "_MAX_IN_PHASE", 5)
    values = [
        {"\x1b[31m<b>" + "x" * 999: {"calls": 1, "ns": 10**9}},
        {"a": {"calls": -1, "ns": 1}},
        {"a": {"ns": "1"}},
        {"a": 3},
        {f"o{i}": {"calls": 1, "ns": 1} for i in range(6)},
        {"a": {}},
        {"b": {"calls": 2, "ns": 3, "later": True}},
        {"c": {"calls": 2, "ns": 3}},
    ]
    run = next(iter(records(SMALL)))
    phases = [
        {"type": "phase", "phase": "head", "begin": i, "end": i + 1, "operators": value}
        for i, value in enumerate(values)
    ]
    analysis = read_analysis(write(tmp_path, [run, *phases]))
    names = [total.operator for total in analysis.timing.operators]
    assert names[0].startswith("\ufffd[31m<b>xxx") and len(names[0]) <= 81
    assert names[1:] == ["b"]
    assert analysis.trace.left_out.lines == 3
    assert analysis.trace.left_out.over_limit == 2
    json.dumps(analysis.to_json())


def test_negative_sizes_in_the_ledger_count_as_nothing(tmp_path: Path) -> None:
    run = list(records(SMALL))
    changed = next(r for r in run if r["type"] == "phase" and r["phase"] == "backward")
    changed["ledger"]["base"] = -4096
    changed["mem"]["hwm"] = 200_000
    analysis = read_analysis(write(tmp_path, run))
    assert not analysis.trace.left_out
    assert "base" not in {part.category for part in analysis.peak.parts}
    assert all(part.bytes > 0 for part in analysis.peak.parts)
