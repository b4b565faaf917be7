"""Every family the way a user takes it: export, plan, data, train, evaluate, verify, report, merge.

CI takes two that have between them what the others have one by one (kinds of blocks, windows, norms
behind, fused projections, longrope); TOOLKIT_SOAK=1 takes all.
"""

import math
import os

import pytest

import toolkit
from tests.support.models import save_model
from toolkit import TrainSettings
from toolkit.families import FAMILIES

SEQ_LEN, STEPS = 24, 3
LOWERINGS = {"phi3": "mebp", "qwen3": "mebp", "smollm3": "mebp"}


@pytest.mark.parametrize(
    "family", FAMILIES if os.environ.get("TOOLKIT_SOAK") else ["gemma3_text", "phi3"]
)
def test_from_model_to_merged_model(tmp_path, monkeypatch, family):
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model", family, tied=family != "qwen2", layers=3)
    lowering = LOWERINGS.get(family, "mesp")
    bundle = toolkit.export("model", "bundle", seq_lens=[SEQ_LEN], rank=4, lowering=lowering)
    assert bundle.manifest["model"]["name"] == "model"
    plan = toolkit.plan("bundle")
    toolkit.prepare_data([], bundle="bundle", random=6)
    with toolkit.open_device("local") as device:
        device.deploy("bundle", data="data")
        settings = TrainSettings(steps=STEPS, learning_rate=5e-2, optimizer="sgd")
        run = device.train("run", settings)
        losses = [step.loss for step in run]
        assert run.wait().status == "completed", run.reason
        assert len(losses) == STEPS and all(map(math.isfinite, losses))
        result = run.pull("runs/run")
    assert plan.prediction.peak == pytest.approx(result.analysis.peak.bytes, rel=0.3)
    report = toolkit.evaluate("bundle", "data", adapter="runs/run", split="train")
    assert report.with_adapter.loss != report.without_adapter.loss
    checked = toolkit.verify("bundle", samples=2)
    assert checked.passed, checked
    assert toolkit.analyze("runs/run").status == "completed"
    assert (
        toolkit.merge("runs/run", "merged").weights == len(bundle.manifest["lora"]["targets"]) * 3
    )
    assert toolkit.export("merged", "again", seq_lens=[SEQ_LEN]).manifest["shape"]["layers"] == 3
