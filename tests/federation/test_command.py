"""`toolkit federate`, with the real trainer on two devices of this machine."""

import json

import pytest
from typer.testing import CliRunner

from toolkit.cli.main import app


def command(*words):
    return CliRunner().invoke(app, ["federate", *map(str, words)])


def test_lines_for_people_and_json_for_machines(lab, tmp_path):
    config = lab.config(tmp_path / "lab.yaml", "a", "b", rounds=1)
    result = command(config, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for words in (
        "round 1/1 on 2 nodes",
        "  a: held-out loss before",
        "off the mean of their",
        "after 1 round",
        f"adapter: {tmp_path / 'out'}",
        "next: toolkit generate",
    ):
        assert words in result.output, words
    assert command(config, "-o", tmp_path / "out").exit_code == 1
    lab.config(tmp_path / "lab.yaml", "a", "b", rounds=2)
    result = command(config, "-o", tmp_path / "out", "--resume", "--json")
    assert result.exit_code == 0
    records = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [record["type"] for record in records]
    assert kinds == ["begin", "node", "node", "round", "node", "node", "end"]
    assert records[3]["round"] == 2 and records[3]["loss"] > 0
    assert records[-1]["rounds"] == 2 and records[-1]["held_out_loss"] > 0


@pytest.mark.parametrize("option", ["--resume", "--json"])
def test_an_app_is_written_without_options_of_a_run(lab, tmp_path, option):
    config = lab.config(tmp_path / "lab.yaml", "a", rounds=1)
    words = (config, "-o", tmp_path / "out", "--flower", tmp_path / "app", option)
    result = command(*words)
    assert result.exit_code == 1 and f"and {option} is not for it" in result.output
    assert not (tmp_path / "app").exists()
    assert command(*words[:-1]).exit_code == 0 and (tmp_path / "app/pyproject.toml").exists()


def test_failures_name_cause_and_remedy(tmp_path):
    (tmp_path / "lab.yaml").write_text("nodes: [local]\nbundle: none\n")
    result = command(tmp_path / "lab.yaml", "-o", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert set(json.loads(result.stdout)) == {"error", "fix"}
    assert not (tmp_path / "out").exists()
