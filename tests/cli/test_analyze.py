"""toolkit analyze: exit codes, JSON, and the report beside the trace."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.trace.synthetic import Recipe, write_trace
from toolkit.cli.main import app

runner = CliRunner()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_trace(tmp_path / "run1" / "trace.jsonl", Recipe(steps=5, layers=2)).parent


def test_summary_and_report_beside_the_trace(run: Path) -> None:
    result = runner.invoke(app, ["analyze", str(run)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("SmolLM2-135M-Instruct · mesp · completed")
    assert "Peak " in result.output
    assert str(run / "report.html") in result.output.replace("\n", "")
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    assert result.stderr == ""
    (run / "adapter_model.safetensors").touch()
    result = runner.invoke(app, ["analyze", str(run)])
    assert result.stderr == f"next: toolkit evaluate BUNDLE --data DATA --adapter {run}\n"


def test_json_is_all_there_is_on_standard_output(run: Path) -> None:
    result = runner.invoke(app, ["analyze", str(run / "trace.jsonl"), "--json"])
    value = json.loads(result.output)
    assert value["status"] == "completed"
    assert value["peak"]["bytes"] > 0
    assert value["report"] == str(run / "report.html")


def test_report_elsewhere(run: Path, tmp_path: Path) -> None:
    report = tmp_path / "mine.html"
    result = runner.invoke(app, ["analyze", str(run), "-o", str(report)])
    assert result.exit_code == 0
    assert report.exists() and not (run / "report.html").exists()


def test_open_shows_the_report(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr("typer.launch", opened.append)
    assert runner.invoke(app, ["analyze", str(run), "--open"]).exit_code == 0
    assert opened == [(run / "report.html").as_uri()]


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return write_trace(tmp_path / "run2" / "trace.jsonl", Recipe(steps=3, layers=4)).parent


def test_several_runs(run: Path, second: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, ["analyze", str(run), str(second)])
    assert result.exit_code == 0, result.output
    assert "run1" in result.output and "run2" in result.output
    assert result.stderr == f"next: toolkit compare {run} {second}\n"
    assert (run / "report.html").exists() and (second / "report.html").exists()
    result = runner.invoke(app, ["analyze", str(run), str(second), "--json"])
    assert [len(value["training"]["loss"]) for value in json.loads(result.output)] == [5, 3]
    arguments = ["analyze", str(run), str(second), "-o", str(tmp_path / "x.html")]
    assert runner.invoke(app, arguments).exit_code == 2


def test_perfetto(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pftrace"
    result = runner.invoke(app, ["analyze", str(run), "--perfetto", str(out)])
    assert result.exit_code == 0
    assert f"Perfetto trace: {out}" in result.output.replace("\n", "")
    assert out.stat().st_size > 1000


def test_a_budget_that_was_exceeded(run: Path, second: Path) -> None:
    for words in ([], ["--json"]):
        assert runner.invoke(app, ["analyze", str(run), "--budget", "1MB", *words]).exit_code == 1
        assert runner.invoke(app, ["analyze", str(run), "--budget", "1GB", *words]).exit_code == 0
    peaks = [
        json.loads(runner.invoke(app, ["analyze", str(r), "--json"]).output)["peak"]["bytes"]
        for r in (run, second)
    ]
    between = f"{min(peaks) + 1}B"  # one of the two is above it
    assert peaks[0] != peaks[1]
    assert (
        runner.invoke(app, ["analyze", str(run), str(second), "--budget", between]).exit_code == 1
    )
    assert runner.invoke(app, ["analyze", str(run), "--budget", f"{peaks[0]}B"]).exit_code == 0
    result = runner.invoke(app, ["analyze", str(run), "--budget", "30"])
    assert result.exit_code == 1 and "'30' has no unit. Write it as 30MB" in result.stderr
    (run / "trace.jsonl").write_bytes((run / "trace.jsonl").read_bytes().split(b"\n")[0] + b"\n")
    result = runner.invoke(app, ["analyze", str(run), "--budget", "1GB"])
    assert result.exit_code == 1 and "the peak is not known" in " ".join(result.stderr.split())


def test_a_budget_is_among_the_findings(run: Path) -> None:
    result = runner.invoke(app, ["analyze", str(run), "--json", "--budget", "1MB"])
    findings = {finding["code"]: finding for finding in json.loads(result.output)["findings"]}
    assert findings["budget"]["severity"] == "error"
    result = runner.invoke(app, ["analyze", str(run), "--json", "--budget", "1GB"])
    assert "budget" not in {f["code"] for f in json.loads(result.output)["findings"]}


def test_published_table(run: Path) -> None:
    result = runner.invoke(app, ["analyze", str(run.parent), "--table"])
    assert result.exit_code == 0, result.output
    assert "iPhone 17 Pro" in result.output and "Other models" in result.output
    assert not (run / "report.html").exists()
    rows = json.loads(runner.invoke(app, ["analyze", str(run), "--table", "--json"]).output)
    assert rows[-1]["measured"][0]["run"] == "run1"


def test_failures_are_one_line(tmp_path: Path) -> None:
    result = runner.invoke(app, ["analyze", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no trace at ")
    (tmp_path / "trace.jsonl").write_text('{"type":"run","version":9}\n')
    result = runner.invoke(app, ["analyze", str(tmp_path)])
    assert result.exit_code == 1
    assert " ".join(result.stderr.split()).startswith("error: line 1 of ")
    assert "reads version 1" in " ".join(result.stderr.split())
    assert not (tmp_path / "report.html").exists()


def test_wrong_usage() -> None:
    assert runner.invoke(app, ["analyze"]).exit_code == 2
    assert runner.invoke(app, ["analyze", "x", "--wrong"]).exit_code == 2


def test_help_ends_in_examples() -> None:
    result = runner.invoke(app, ["analyze", "--help"])
    assert result.exit_code == 0
    assert "toolkit analyze runs/run1 --open" in result.output
    assert "--json | jq .peak.bytes" in result.output
