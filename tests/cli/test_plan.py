"""toolkit plan: predictions, budgets, exit codes, from configurations alone."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from toolkit.cli.main import app
from toolkit.planning.settings import Machine
from toolkit.recipes import get_recipe

runner = CliRunner()


def plan(*arguments: object) -> dict:
    result = runner.invoke(app, ["plan", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_recipe_hub_id_and_directory_agree(tmp_path: Path) -> None:
    recipe = get_recipe("smollm2-135m")
    recipe.model_config().save_pretrained(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    by_recipe = plan("smollm2-135m")
    for model in (recipe.hub_id, tmp_path, tmp_path / "config.json"):
        other = plan(model)
        assert other["peak"] == by_recipe["peak"] and other["seconds"] == by_recipe["seconds"]
    assert by_recipe["adapter_parameters"] == 2_442_240
    assert by_recipe["machine"]["measured"] is False


def test_options_change_the_plan() -> None:
    settings = plan("smollm2-135m", "--seq-len", 64, "--rank", 16, "--targets", "q_proj,v_proj")
    assert settings["settings"]["alpha"] == 32
    assert settings["settings"]["targets"] == ["q_proj", "v_proj"]
    assert settings["peak"]["bytes"] < plan("smollm2-135m")["peak"]["bytes"]
    assert "--targets q_proj,v_proj" in settings["commands"][0]


def test_sequences_together_cost_memory_of_a_longer_row() -> None:
    apart = plan("smollm2-135m", "--seq-len", 64, "--sequences", 4)
    joined = plan("smollm2-135m", "--seq-len", 64, "--sequences", 4, "--batch-size", 4)
    assert joined["settings"]["sequences"] == 4
    memory = [report["peak"]["memory"] for report in (apart, joined)]
    assert memory[1]["arena"] > 3 * memory[0]["arena"]
    assert memory[1]["gradients"] == memory[0]["gradients"] // 2
    wrong = ["plan", "smollm2-135m", "--sequences", "3", "--batch-size", "2"]
    assert runner.invoke(app, wrong).exit_code == 2


def test_a_budget_that_fits_and_one_that_does_not() -> None:
    fits = plan("smollm2-135m", "--budget", "100MB")
    assert fits["fits"] and fits["best"]["peak"]["bytes"] < 96e6
    result = runner.invoke(app, ["plan", "smollm2-135m", "--budget", "8MB"])
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert text.startswith("Nothing fits 8.0 MB: smollm2-135m needs at least ")
    assert "too much" in text and "would do" in text


def test_words() -> None:
    result = runner.invoke(app, ["plan", "qwen2.5-0.5b", "--budget", "90MB"])
    text = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert "qwen2.5-0.5b fits 90.0 MB" in text and "nobody has measured" in text
    assert "toolkit export Qwen/Qwen2.5-0.5B-Instruct -o" in text
    assert "toolkit train --steps 100" in text and "--device SERIAL names a phone" in text


def test_failures_are_one_line(tmp_path: Path) -> None:
    for arguments, cause in (
        (["no-such-model-anywhere"], "there is no model 'no-such-model-anywhere'"),
        ([str(tmp_path)], "has no config.json"),
        (["smollm2-135m", "--budget", "lots"], "'lots' is not a size"),
        (["smollm2-135m", "--targets", "wrong"], "LoRA targets wrong do not exist"),
    ):
        result = runner.invoke(app, ["plan", *arguments])
        assert result.exit_code == 1, result.output
        assert cause in " ".join(result.stderr.split())
    assert runner.invoke(app, ["plan"]).exit_code == 2
    assert runner.invoke(app, ["plan", "smollm2-135m", "--lowering", "x"]).exit_code == 2


def test_a_device_gives_speed_and_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def measured(device, threads, status, arithmetic) -> Machine:
        seen.append((device.spec, threads, arithmetic))
        return Machine(name="test phone", available=60_000_000, measured=True)

    monkeypatch.setattr("toolkit.planning.measure.measure", measured)
    value = plan("smollm2-135m", "--device", "local")
    assert seen == [("local", 0, "float32")]
    assert value["budget_bytes"] == 60_000_000 and value["fits"]
    assert value["best"]["machine"]["measured"] is True
    assert "--device local" in value["best"]["commands"][-1]
