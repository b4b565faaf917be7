"""The Python API, from a model to an adapter that peft loads, on this machine."""

import json
import math
import shutil

import pytest
from typer.testing import CliRunner

import toolkit
from tests.api.conftest import STEPS
from toolkit import ToolkitError, TrainSettings
from toolkit.cli.main import app


def test_the_example_trains_and_brings_the_adapter_back(here):
    names = here.names
    assert isinstance(names["bundle"], toolkit.Bundle)
    assert names["data"].sequences == names["data"].report["train"]["sequences"] > 0
    run, result = names["run"], names["result"]
    assert (run.status, run.name) == ("completed", "run1") and "run1" in repr(run)
    assert names["step"].step == STEPS and math.isfinite(names["step"].loss)
    assert run.peak_bytes >= names["step"].peak_bytes > 1 << 20
    assert result.analysis.peak.bytes == run.peak_bytes
    assert result.settings == TrainSettings(steps=STEPS, learning_rate=5e-4).effective()
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained("model")
    assert PeftModel.from_pretrained(base, result.adapter_path).peft_config["default"].r == 8


def test_steps_are_those_of_the_trace(here):
    with toolkit.open_device() as device:
        steps = list(device.run("run1"))
    trace = (here.folder / "runs/run1/trace.jsonl").read_text().splitlines()
    records = [r for r in map(json.loads, trace) if r["type"] == "step"]
    for step, record in zip(steps, records, strict=True):
        assert (step.step, step.loss, step.learning_rate) == (
            record["step"],
            record["loss"],
            record["lr"],
        )
        assert (step.tokens, step.labelled) == (record["tokens"], record["labelled"])
        assert step.peak_bytes == record["peak"] * 1024 and step.seconds == record["seconds"]
        assert step.grad_norm == record["grad_norm"]


def test_leaving_the_loop_loses_nothing(here):
    with toolkit.open_device("local") as device:
        run = device.run("run1")
        assert run.status == "completed" and "completed" in repr(run)
        first = next(iter(run))
        rest = list(run)
    assert [step.step for step in [first, *rest]] == list(range(1, STEPS + 1))
    assert run.status == "completed" and list(run.wait()) == []


def test_a_plan_measures_an_open_device(here):
    with toolkit.open_device("local") as device:
        measured = toolkit.plan("bundle", device=device)
    assert measured.device == "local" and measured.prediction.seconds is not None


def test_a_run_is_stopped_resumed_and_evaluated(here):
    with toolkit.open_device("local") as device:
        settings = TrainSettings(steps=10_000, optimizer="sgd", eval_every=0, trace="steps")
        run = device.train("long", settings)
        for step in run:
            if step.step == 2:
                run.stop()
        assert run.status == "stopped" and step.step < 10_000
        assert run.pull("runs/long").adapter_path is not None
        said = []
        again = device.resume("long", steps=step.step + 1, learning_rate=1e-3, say=said.append)
        assert [s.step for s in again.wait()] == [] and again.status == "completed"
        assert said == [f"changed: steps 10000 -> {step.step + 1}, lr 0.0001 -> 0.001"]
        [before, after] = [e for r in (run, again) for e in r.evaluations]
        assert (before.step, after.step) == (0, step.step + 1)
        assert after.perplexity == pytest.approx(math.exp(after.loss), rel=1e-6)
        result = again.pull("runs/long")
        assert result.settings.learning_rate == 1e-3 and result.settings.momentum == 0


def test_a_run_starts_from_an_adapter_and_in_epochs(here):
    with toolkit.open_device("local") as device:
        settings = TrainSettings(epochs=1, grad_accum=2)
        run = device.train("more", settings, adapter=here.names["result"])
        steps = list(run)
    assert len(steps) == math.ceil(here.names["data"].sequences / 2)


def test_what_is_wrong_is_said(here):
    with toolkit.open_device("local") as device:
        with pytest.raises(ToolkitError, match="'run1' exists on device local"):
            device.train("run1", TrainSettings(steps=1))
        with pytest.raises(ToolkitError, match="how long the run should be is not known"):
            device.train("other", TrainSettings())
        with pytest.raises(ToolkitError, match="no bundle 'nothing'"):
            device.train("other", TrainSettings(steps=1), bundle="nothing")
        with pytest.raises(ToolkitError, match="unknown setting 'lrate'"):
            device.resume("run1", lrate=1.0)
        with pytest.raises(ToolkitError, match="there is no run 'nothing'"):
            device.run("nothing")
        refused = device.train("other", TrainSettings(steps=1, batch_size=7))
        with pytest.raises(ToolkitError, match="Nothing was started; the name can be used again"):
            refused.wait()
    with pytest.raises(ToolkitError, match="is not a device"):
        toolkit.open_device("a b")
    for wrong in ({"model": None}, {"model": "model", "random_weights": "smollm2-135m"}):
        with pytest.raises(ToolkitError, match="either a model or a recipe"):
            toolkit.export(output="x", **wrong)
    with pytest.raises(ToolkitError, match="no tokenizer"):
        toolkit.prepare_data(["chats.jsonl"])
    with pytest.raises(ToolkitError, match="random tokens take no files, loss"):
        toolkit.prepare_data("chats.jsonl", bundle="bundle", random=4, loss="all")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        toolkit.nothing  # noqa: B018
    assert set(toolkit.__all__) <= set(dir(toolkit))


def test_notebooks_show_plan_analysis_and_comparison(here):
    plan = toolkit.plan("bundle", budget="1GB")
    assert plan.fits and not toolkit.plan("bundle", budget="1MB").fits
    assert "needs" in toolkit.plan("bundle")._repr_html_()
    assert "fits 1.00 GB" in plan._repr_html_().replace("\n", " ")
    analysis = here.names["result"].analysis
    frame = analysis._repr_html_()
    assert frame.startswith("<iframe srcdoc=") and "&lt;html" in frame and "<html" not in frame
    assert here.names["result"]._repr_html_() == frame
    comparison = toolkit.compare(analysis, "runs/run1")
    assert "in both runs" in comparison._repr_html_()


def test_commands_are_thin_over_it(here):
    """The same bundle, data and figures come from the command line."""
    runner = CliRunner()

    def command(*words):
        result = runner.invoke(app, [*map(str, words), "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    manifest = command("export", "model", "-o", "cli-bundle", "--seq-len", 64)
    assert manifest == here.names["bundle"].manifest
    data = command("data", "chats.jsonl", "--tokenizer", "cli-bundle", "-o", "cli-data")
    assert data["files"] == here.names["data"].report["files"]
    assert command("plan", "bundle") == json.loads(json.dumps(toolkit.plan("bundle").to_json()))
    found = command("evaluate", "bundle", "--data", "data", "--adapter", "runs/run1")
    report = toolkit.evaluate("bundle", "data", adapter="runs/run1")
    assert found == report.to_json() and set(found) >= {"with_adapter", "without_adapter"}
    shutil.rmtree("cli-bundle")
