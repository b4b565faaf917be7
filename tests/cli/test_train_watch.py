"""What a person sees of a run."""

import json

from toolkit.cli.train_watch import BarView, watch
from toolkit.device.local import LocalDevice
from toolkit.device.runs import Run
from toolkit.device.watching import Watching


def test_a_run_that_waits_for_storage_says_so(tmp_path, capsys):
    view = BarView(Run(LocalDevice(tmp_path), "a"), 9)
    cause = "cannot write /runs/a/state.bin: No space left on device"
    view.record({"type": "event", "t": 1, "event": "saved", "detail": "step 1"})
    view.record({"type": "event", "t": 2, "event": "waiting_for_storage", "detail": cause})
    assert capsys.readouterr().err == (
        f"waiting to save until there is room on the device: {cause}\n"
    )


def test_approximate_gradients_are_called_that(tmp_path, capsys):
    view = BarView(Run(LocalDevice(tmp_path), "a"), 9)
    for lowering in ("mesp", "approx-bp", "ms-bp"):
        view.record({"type": "run", "version": 1, "lowering": lowering})
    said = "the bundle's lowering: approx-bp (approximate gradients)\n"
    assert capsys.readouterr().err == said


def test_what_held_out_loss_decided_is_said(tmp_path, capsys):
    reason = "the held-out loss was not below 1.5, that of step 2, in 1 evaluation"
    run = tmp_path / "runs/a"
    run.mkdir(parents=True)
    records = [
        {"type": "run", "version": 1},
        {"type": "evaluation", "step": 2, "loss": 1.5, "perplexity": 4.48, "best": True},
        {"type": "event", "event": "best", "step": 2, "detail": "step 2, held-out loss 1.5"},
        {"type": "evaluation", "step": 4, "loss": 72.1, "perplexity": 2.0544e31, "best": False},
        {"type": "end", "status": "completed", "steps": 4, "seconds": 2, "reason": reason},
    ]
    (run / "trace.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (run / "exit").write_text("0")
    with LocalDevice(tmp_path) as device:
        watch(Watching(Run(device, "a")), None, as_json=False)
        said = capsys.readouterr().err.splitlines()
        assert said[:2] == [
            "step 2: held-out loss 1.5000, perplexity 4.48, the lowest so far",
            "step 4: held-out loss 72.1000, perplexity 2.05e31",
        ]
        assert said[2].startswith("run a completed: 4 steps, ")
        assert said[3] == f"it ended early: {reason}"
        watch(Watching(Run(device, "a")), None, as_json=True)
        shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert shown == records


def test_the_first_steps_tell_what_is_left(tmp_path, capsys):
    """But the very first, which reads the weights; once, and not of a run that was there before."""
    for forecast in (True, False):
        view = BarView(Run(LocalDevice(tmp_path), "a"), 63, forecast=forecast)
        for step, seconds in enumerate((9.0, 1.5, 2.5, 4.0, 4.0), 1):
            view.record({"type": "step", "step": step, "seconds": seconds, "tokens": 10})
        said = [line for line in capsys.readouterr().err.splitlines() if "left" in line]
        assert said == (["about 2 min 0 s left, 2 s a step"] if forecast else [])
