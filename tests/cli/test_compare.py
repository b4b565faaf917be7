"""toolkit compare: exit codes guard a budget."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.trace.synthetic import Recipe, write_trace
from toolkit.cli.main import app

runner = CliRunner()


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """Two runs; the second has longer sequences and more memory."""
    recipes = {"a": Recipe(steps=4, layers=4), "b": Recipe(steps=4, layers=4, seq_len=512)}
    paths = [write_trace(tmp_path / n / "trace.jsonl", r).parent for n, r in recipes.items()]
    return str(paths[0]), str(paths[1])


def test_growth_beyond_the_limit_fails(runs: tuple[str, str]) -> None:
    first, second = runs
    result = runner.invoke(app, ["compare", first, second, "--fail-above", "5%"])
    assert result.exit_code == 1
    assert "more than 5 %" in result.output
    assert runner.invoke(app, ["compare", first, second, "--fail-above", "50"]).exit_code == 0
    assert runner.invoke(app, ["compare", second, first, "--fail-above", "0%"]).exit_code == 0
    assert runner.invoke(app, ["compare", first, second]).exit_code == 0


def test_json(runs: tuple[str, str]) -> None:
    result = runner.invoke(app, ["compare", *runs, "--json", "--fail-above", "1%"])
    value = json.loads(result.stdout)
    assert result.exit_code == 1 and value["failed"] is True and value["fail_above"] == 0.01
    assert value["peak"]["difference"] == value["peak"]["after"] - value["peak"]["before"] > 0
    assert {"name": "bundle seq_len", "before": 256, "after": 512} in value["differences"]


def test_wrong_usage(runs: tuple[str, str], tmp_path: Path) -> None:
    for limit in ("much", "-5%", "nan"):
        assert runner.invoke(app, ["compare", *runs, f"--fail-above={limit}"]).exit_code == 2
    result = runner.invoke(app, ["compare", runs[0], str(tmp_path / "no")])
    assert result.exit_code == 1 and result.stderr.startswith("error: no trace at ")
    assert runner.invoke(app, ["compare", runs[0]]).exit_code == 2
