"""The reader takes what it can from a trace in any state, and says what it left out."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.trace.synthetic import Recipe, records, to_line, write_trace
from toolkit.errors import ToolkitError
from toolkit.trace.reader import read_trace
from toolkit.trace.schema import CATEGORIES, PHASES
from toolkit.trace.trace import PHASE_ORIGIN, Trace

SMALL = Recipe(steps=3, layers=2)


@pytest.fixture
def lines() -> list[bytes]:
    return [to_line(record) for record in records(SMALL)]


def read_lines(tmp_path: Path, lines: list[bytes]):
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(lines))
    return read_trace(path)


def contents(trace: Trace) -> np.ndarray:
    return trace.phases.values[:, len(PHASE_ORIGIN) :]


def test_every_number_arrives(tmp_path: Path) -> None:
    trace = read_trace(write_trace(tmp_path / "trace.jsonl", SMALL))
    written = [r for r in records(SMALL) if r["type"] == "phase"]
    assert len(trace.phases) == len(written) == 1 + 3 * (3 + 2 * 2)
    expected = {
        "step": [r["step"] for r in written],
        "phase": [PHASES.index(r["phase"]) for r in written],
        "layer": [-1 if r["layer"] is None else r["layer"] for r in written],
        "begin": [r["begin"] for r in written],
        "end": [r["end"] for r in written],
        **{key: [r["mem"][key] for r in written] for key in written[0]["mem"]},
        **{key: [r["io"][key] for r in written] for key in written[0]["io"]},
        **{f"ledger_{key}": [r["ledger"][key] for r in written] for key in CATEGORIES},
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(trace.phases[name], values, err_msg=name)
    steps = [r for r in records(SMALL) if r["type"] == "step"]
    for name in ("step", "t", "seconds", "loss", "lr", "tokens", "grad_norm", "peak"):
        np.testing.assert_array_equal(trace.steps[name], [r[name] for r in steps], err_msg=name)
    assert trace.end is not None and trace.end.status == "completed"
    assert not trace.left_out


def test_what_a_run_that_diverged_wrote_is_read(tmp_path: Path, lines: list[bytes]) -> None:
    step = next(r for r in records(SMALL) if r["type"] == "step")
    last = {**step, "step": 3, "loss": 3e38, "grad_norm": 3e43}
    held_out = {"type": "evaluation", "step": 3, "loss": 690.0, "perplexity": 4.6e299, "tokens": 9}
    trace = read_lines(tmp_path, [*lines[:-1], to_line(last), to_line(held_out)])
    assert trace.steps["grad_norm"][-1] == 3e43
    assert [evaluation.loss for evaluation in trace.evaluations] == [690.0]
    assert not trace.left_out


def test_run_directory_or_file(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "run" / "trace.jsonl", SMALL)
    assert read_trace(path.parent).path == read_trace(path).path == path


@pytest.mark.parametrize("name", ["missing", "missing/trace.jsonl", "\0", "x" * 5000])
def test_missing_trace_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ToolkitError, match="no trace at"):
        read_trace(tmp_path / name)


def test_truncated_last_line(tmp_path: Path, lines: list[bytes]) -> None:
    trace = read_lines(tmp_path, [*lines[:-1], lines[-1][:20]])
    assert trace.left_out.truncated_line == len(lines)
    assert trace.left_out.lines == 0
    assert trace.end is None
    assert len(trace.steps) == 3


@pytest.mark.parametrize("cut", [1, 5, 40, 100])
def test_cut_anywhere(tmp_path: Path, lines: list[bytes], cut: int) -> None:
    whole = b"".join(lines)
    first = len(lines[0])
    for end in range(first, len(whole), len(whole) // cut):
        trace = read_lines(tmp_path, [whole[:end]])
        assert trace.lines == whole[:end].count(b"\n") + (not whole[:end].endswith(b"\n"))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"garbage", "malformed"),
        (b"\xff\xfe\x00\x01", "malformed"),
        (b'{"type":"step","step":1', "truncated"),
        (b'{"type":"step","step":NaN,"t":1}', "malformed"),
        (b'{"type":"step","step":1,"t":1,"loss":Infinity}', "malformed"),
        (b'{"type":"step","step":1e400,"t":1}', "out of range"),
        (b'{"type":"step","step":-1,"t":1}', ">= 0"),
        (b'{"type":"step","step":1,"t":1,"peak":99999999999999999999}', "<="),
        (b'{"type":"phase","phase":"other","begin":1,"end":2}', "Invalid enum value 'other'"),
        (b'{"type":"phase","phase":"embed","begin":2,"end":1}', "ends before it begins"),
        (b'{"type":"phase","phase":"embed","end":1}', "missing required field `begin`"),
        (b'{"type":"phase","phase":"embed","begin":1,"end":2,"mem":[]}', "mem"),
        (b'{"type":"unheard"}', "Invalid value 'unheard'"),
        (b'{"type":"step","step":1,"t":1,"los\xe2":1}', "invalid continuation byte"),
        (b'{"step":1}', "`type`"),
        (b"[1,2]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b"[" * 100_000, "Expected `object`"),
        (b'{"type":"event","t":1,"event":"x","detail":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_corrupt_line_is_listed(
    tmp_path: Path, lines: list[bytes], bad: bytes, reason: str
) -> None:
    trace = read_lines(tmp_path, [*lines[:4], bad + b"\n", *lines[4:]])
    (problem,) = trace.left_out.problems
    assert problem.line == 5
    assert reason in problem.reason
    assert trace.left_out.lines == 1
    assert len(trace.steps) == 3
    assert trace.end is not None


def test_overlong_line_is_skipped(tmp_path: Path, lines: list[bytes]) -> None:
    trace = read_lines(tmp_path, [lines[0], b"x" * (9 << 20) + b"\n", *lines[1:]])
    assert [p.line for p in trace.left_out.problems] == [2]
    assert len(trace.steps) == 3


def test_many_corrupt_lines_are_counted_not_kept(tmp_path: Path, lines: list[bytes]) -> None:
    trace = read_lines(tmp_path, [lines[0], *[b"?\n"] * 1000, *lines[1:]])
    assert trace.left_out.lines == 1000
    assert len(trace.left_out.problems) == 100


@pytest.mark.parametrize("version", ["2", "0", '"1"', "null", "1.5", "[]"])
def test_other_version_is_refused_with_its_line(
    tmp_path: Path, lines: list[bytes], version: str
) -> None:
    other = b'{"type":"run","layout":[],"version":' + version.encode() + b"}\n"
    with pytest.raises(ToolkitError, match=r"line 3 .* version .* reads version 1"):
        read_lines(tmp_path, [*lines[1:3], other])


def test_no_run_record(tmp_path: Path, lines: list[bytes]) -> None:
    with pytest.raises(ToolkitError, match=r"no run record: none in its \d+ lines"):
        read_lines(tmp_path, lines[1:])
    with pytest.raises(ToolkitError, match="none in its 0 lines"):
        read_lines(tmp_path, [])


def test_invalid_run_record_is_named(tmp_path: Path, lines: list[bytes]) -> None:
    with pytest.raises(ToolkitError, match=r"line 1 is not valid .*model"):
        read_lines(tmp_path, [b'{"type":"run","version":1,"model":7}\n', *lines[1:]])


def test_reordered_records(tmp_path: Path, lines: list[bytes]) -> None:
    trace = read_lines(tmp_path, lines[::-1])
    expected = read_lines(tmp_path, lines)
    assert trace.left_out.reordered
    np.testing.assert_array_equal(contents(trace), contents(expected))
    np.testing.assert_array_equal(trace.steps.values[:, 1:], expected.steps.values[:, 1:])


def test_doubled_records(tmp_path: Path, lines: list[bytes]) -> None:
    trace = read_lines(tmp_path, [line for line in lines for _ in range(2)])
    expected = read_lines(tmp_path, lines)
    np.testing.assert_array_equal(contents(trace), contents(expected))
    assert len(trace.steps) == 3
    assert len(trace.sessions) == 1
    assert trace.left_out.duplicates == len(expected.phases) + 1


def test_resumed_run_goes_on_in_time(tmp_path: Path, lines: list[bytes]) -> None:
    resumed = [to_line(r) for r in records(Recipe(steps=3, layers=2, resumed_from=2, seed=1))]
    trace = read_lines(tmp_path, [*lines[:-1], *resumed])
    assert [session.run.resumed_from for session in trace.sessions] == [None, 2]
    assert trace.steps["step"].tolist() == [1, 2, 3, 4, 5]
    assert trace.left_out.superseded_steps == 1
    assert (np.diff(trace.phases["begin"]) >= 0).all()
    assert (np.diff(trace.steps["t"]) > 0).all()
    third = [json.loads(line) for line in resumed if b'"type":"step","step":3' in line]
    assert trace.steps["loss"][2] == third[0]["loss"]


def test_earlier_traces_call_the_lowering_method(tmp_path: Path, lines: list[bytes]) -> None:
    first = json.loads(lines[0])
    first["method"] = first.pop("lowering")
    trace = read_lines(tmp_path, [to_line(first), *lines[1:]])
    assert trace.run == read_lines(tmp_path, lines).run and trace.run.lowering == "mesp"
    assert trace.left_out.lines == 0


def test_hostile_texts_are_cleaned(tmp_path: Path) -> None:
    run = next(iter(records(SMALL)))
    run["model"] = "\x1b[31mred\u202e\ud800" + "x" * 1000
    run["settings"] = {"a\x00b": ["\x07"], "deep": {"x": [1, {"y": None}]}}
    text = json.dumps(run).replace("\\ud800", "\\\\ud800").encode() + b"\n"
    trace = read_lines(tmp_path, [text])
    assert trace.run.model.startswith("\ufffd[31mred\ufffd")
    assert len(trace.run.model) <= 301
    assert trace.run.settings["a\ufffdb"] == '["\\u0007"]'
    assert trace.run.settings["deep"] == '{"x": [1, {"y": null}]}'
