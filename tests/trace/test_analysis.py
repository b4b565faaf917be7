"""The analysis finds what a synthetic run was made to contain."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trace.synthetic import Recipe, records, to_line, write_trace
from toolkit.trace.analysis import Analysis, read_analysis
from toolkit.trace.narrative import headline, paragraphs

KIB = 1024
SMALL = Recipe(steps=12, layers=3)


def analyze(tmp_path: Path, recipe: Recipe = SMALL) -> Analysis:
    return read_analysis(write_trace(tmp_path / "trace.jsonl", recipe))


def analyze_records(tmp_path: Path, run: list[dict]) -> Analysis:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(to_line(record) for record in run))
    return read_analysis(path)


def codes(analysis: Analysis) -> dict[str, str]:
    return {finding.code: finding.severity for finding in analysis.findings}


def test_peak_and_its_place(tmp_path: Path) -> None:
    run = list(records(SMALL))
    phases = [r for r in run if r["type"] == "phase"]
    chosen = next(r for r in phases if (r["step"], r["phase"], r["layer"]) == (7, "backward", 1))
    chosen["mem"]["hwm"] = 100_000
    analysis = analyze_records(tmp_path, run)
    peak = analysis.peak
    assert peak.bytes == 100_000 * KIB
    assert (peak.place.step, peak.place.phase, peak.place.layer) == (7, "backward", 1)
    assert peak.seconds == chosen["end"] / 1e9
    assert {p.category: p.bytes for p in peak.named_parts} == {
        k: v for k, v in chosen["ledger"].items() if v
    }
    ledger = sum(chosen["ledger"].values())
    assert peak.explained == pytest.approx(ledger / (100_000 * KIB))
    assert peak.parts[-1].category == "unexplained"
    assert peak.parts[-1].bytes == 100_000 * KIB - ledger
    assert sum(part.share for part in peak.parts) == pytest.approx(1)
    shares = [part.share for part in peak.named_parts]
    assert shares == sorted(shares, reverse=True)
    assert headline(analysis).startswith("Peak 102 MB at step 7, in the backward of layer 1: ")
    assert codes(analysis)["ledger-below-peak"] == "note"


def test_peak_outside_of_phases_is_not_lost(tmp_path: Path) -> None:
    run = list(records(SMALL))
    next(r for r in run if r["type"] == "step" and r["step"] == 4)["peak"] = 200_000
    peak = analyze_records(tmp_path, run).peak
    assert peak.bytes == 200_000 * KIB
    assert (peak.place.step, peak.place.phase, peak.row) == (4, None, None)


def test_readings_that_lag_do_not_hide_the_place(tmp_path: Path) -> None:
    run = list(records(SMALL))
    highest = max((r for r in run if r["type"] == "phase"), key=lambda r: r["mem"]["hwm"])
    run[-1]["peak"] = highest["mem"]["hwm"] + 100
    peak = analyze_records(tmp_path, run).peak
    assert peak.bytes == run[-1]["peak"] * KIB
    assert (peak.place.step, peak.place.phase) == (highest["step"], highest["phase"])
    assert sum(part.bytes for part in peak.parts) == peak.bytes


def test_peak_seen_by_the_sampler_is_placed_in_its_phase(tmp_path: Path) -> None:
    run = list(records(SMALL))
    phase = next(r for r in run if r["type"] == "phase" and r["step"] == 5 and r["layer"] == 1)
    t = (phase["begin"] + phase["end"]) // 2
    run.append({"type": "sample", "t": t, "mem": {"hwm": 300_000}})
    peak = analyze_records(tmp_path, run).peak
    assert peak.bytes == 300_000 * KIB
    assert (peak.place.step, peak.place.phase, peak.place.layer) == (5, phase["phase"], 1)


def test_much_written_to_flash(tmp_path: Path) -> None:
    run = list(records(SMALL))
    for record in run:
        if record["type"] == "phase" and record["phase"] == "forward":
            record["io"]["written_bytes"] = 7_000_000
    analysis = analyze_records(tmp_path, run)
    assert codes(analysis) == {"flash": "warning"}
    assert analysis.findings[0].title == "Every step writes 21.0 MB to flash"
    assert "A thousand steps write 21.0 GB" in analysis.findings[0].detail
    assert "`--checkpoints ram`" in analysis.findings[0].detail
    assert analysis.storage.spilled_per_step == 21e6
    run[0]["checkpoints"] = {"place": "spill", "bytes": 22_000_000, "reason": "memory is short"}
    detail = analyze_records(tmp_path, run).findings[0].detail
    assert "which takes 22.0 MB. Why they did not: memory is short." in detail


@pytest.mark.parametrize("detail", ["full", "steps"])
def test_what_spilling_and_saving_write_is_told_apart(tmp_path: Path, detail: str) -> None:
    """A save at the end belongs to no step, however few they are."""
    run = list(records(replace(SMALL, detail=detail)))
    steps = [record for record in run if record["type"] == "step"]
    for record in steps:
        record |= {"written_bytes": 3_000_000, "spilled_bytes": 2_900_000}
    for record in run:
        if record["type"] == "phase" and record["phase"] == "save":
            record["io"]["written_bytes"] = 39_100_000
    run.append({"type": "event", "t": run[-1]["t"], "event": "saved", "detail": "step 3"})
    run[-1] |= {"step": steps[-1]["step"], "written_bytes": 39_100_000}
    analysis = analyze_records(tmp_path, run)
    storage, count = analysis.storage, len(steps)
    assert (storage.saved_bytes, storage.saves) == (39_100_000, 1)
    assert storage.spilled_bytes == 2_900_000 * count and storage.spilled_per_step == 2_900_000
    assert storage.written_bytes == 39_100_000 + 3_000_000 * count
    text = " ".join(paragraphs(analysis))
    assert "by spilled checkpoints (2.9 MB a step), 39.1 MB by 1 save." in text
    assert "flash" not in codes(analysis)
    for record in steps:
        record |= {"written_bytes": 0, "spilled_bytes": 0}
    text = " ".join(paragraphs(analyze_records(tmp_path, run)))
    assert "39.1 MB were written to flash: 39.1 MB by 1 save." in text


def test_state_on_storage_is_told_apart_from_checkpoints(tmp_path: Path) -> None:
    run = list(records(replace(SMALL, detail="steps")))
    steps = [record for record in run if record["type"] == "step"]
    for record in steps:
        record |= {"written_bytes": 55_000_000, "spilled_bytes": 2_000_000}
        record |= {"state_bytes": 52_800_000, "seconds": 2.0}
    run[0]["state"] = {"place": "spill", "bytes": 52_800_000, "reason": "memory is short"}
    analysis = analyze_records(tmp_path, run)
    storage = analysis.storage
    assert storage.state_bytes == 52_800_000 * len(steps)
    assert storage.spilled_bytes == 2_000_000 * len(steps)
    text = " ".join(paragraphs(analysis))
    assert "by adapters and optimizer state (52.8 MB a step)" in text
    [finding] = [f for f in analysis.findings if f.code == "state-on-flash"]
    assert finding.title == "Every step writes 52.8 MB of state to flash"
    assert "760.3 GB in a night of eight hours" in finding.detail
    assert "--optimizer adamw-8bit" in finding.detail and "memory is short" in finding.detail
    for record in steps:
        del record["state_bytes"]
    assert "state-on-flash" not in codes(analyze_records(tmp_path, run))


def test_saves_that_older_traces_count_with_steps_are_not_spilled(tmp_path: Path) -> None:
    run = [r for r in records(SMALL) if r["type"] != "phase" or r["phase"] != "save"]
    for record in run:
        if record["type"] == "step":
            record["written_bytes"] = 5_000_000
    storage = analyze_records(tmp_path, run).storage
    assert storage.spilled_bytes == 5_000_000 * sum(r["type"] == "step" for r in run)
    saving = {"type": "phase", "phase": "save", "begin": 0, "end": 1, "step": 3}
    saving |= {"io": {"written_bytes": 4_000_000}}
    storage = analyze_records(tmp_path, [run[0], saving, *run[1:]]).storage
    assert storage.saved_bytes == 4_000_000
    assert storage.written_bytes == 5_000_000 * sum(r["type"] == "step" for r in run)


def test_means_of_the_loss_are_called_means(tmp_path: Path) -> None:
    text = " ".join(paragraphs(analyze(tmp_path, Recipe(steps=50, layers=2))))
    assert "over steps 1 to 50 (means of the first and the last 5)" in text
    assert "means" not in " ".join(paragraphs(analyze(tmp_path, SMALL)))


def test_phase_that_alone_sets_the_peak_is_named(tmp_path: Path) -> None:
    run = list(records(SMALL))
    for record in run:
        if record["type"] == "phase":
            record["mem"]["hwm"] = 90_000 if record["phase"] == "embed" else 50_000
    analysis = analyze_records(tmp_path, run)
    assert "reaches 51.2 MB" in paragraphs(analysis)[0]
    assert paragraphs(analysis)[0].startswith("The engine's ledger accounts for ")


def test_time_outside_of_phases_is_noted(tmp_path: Path) -> None:
    run = list(records(SMALL))
    run[-1]["t"] *= 2
    analysis = analyze_records(tmp_path, run)
    assert codes(analysis) == {"outside-phases": "note"}


def test_time_by_phase_adds_up(tmp_path: Path) -> None:
    analysis = analyze(tmp_path)
    phases = [r for r in records(SMALL) if r["type"] == "phase"]
    for total in analysis.timing.phases:
        mine = [r for r in phases if r["phase"] == total.phase]
        seconds = [(r["end"] - r["begin"]) / 1e9 for r in mine]
        assert total.count == len(mine)
        assert total.seconds == pytest.approx(sum(seconds))
        assert total.median_seconds == pytest.approx(np.median(seconds))
        assert total.peak_bytes == max(r["mem"]["hwm"] for r in mine) * KIB
        assert total.major_faults == sum(r["io"]["major_faults"] for r in mine)
    covered = sum(total.seconds for total in analysis.timing.phases)
    assert covered + analysis.timing.outside_seconds == pytest.approx(analysis.timing.seconds)


def test_layers_add_up_visits_within_a_step(tmp_path: Path) -> None:
    run = list(records(SMALL))
    expected: dict[tuple[int, str], dict[int, float]] = {}
    for record in run:
        if record["type"] == "phase" and record["layer"] is not None:
            record["layer"] //= 2  # layers 0 and 1 become two visits of layer 0
            of_step = expected.setdefault((record["layer"], record["phase"]), {})
            seconds = (record["end"] - record["begin"]) / 1e9
            of_step[record["step"]] = of_step.get(record["step"], 0.0) + seconds
    layers = analyze_records(tmp_path, run).timing.layers
    assert [layer.layer for layer in layers] == [0, 1]
    for layer in layers:
        for phase in ("forward", "backward"):
            wanted = np.median(list(expected[layer.layer, phase].values()))
            assert getattr(layer, f"{phase}_seconds") == pytest.approx(wanted)


def test_speed_and_loss(tmp_path: Path) -> None:
    recipe = Recipe(steps=50, layers=2)
    analysis = analyze(tmp_path, recipe)
    steps = [r for r in records(recipe) if r["type"] == "step"]
    seconds = sum(r["seconds"] for r in steps)
    timing, training = analysis.timing, analysis.training
    assert timing.tokens_per_second == pytest.approx(sum(r["tokens"] for r in steps) / seconds)
    assert timing.step_median_seconds == pytest.approx(np.median([r["seconds"] for r in steps]))
    assert training.window == 5
    assert training.first_loss == pytest.approx(np.mean([r["loss"] for r in steps[:5]]))
    assert training.last_loss == pytest.approx(np.mean([r["loss"] for r in steps[-5:]]))
    assert training.lowest_loss == min(r["loss"] for r in steps)
    assert [e.step for e in training.evaluations] == [25, 50]
    assert analysis.storage.written_bytes == 2 * 29_400_000
    assert not codes(analysis)


def test_trace_without_phases(tmp_path: Path) -> None:
    analysis = analyze(tmp_path, replace(SMALL, detail="steps"))
    assert analysis.peak is None or analysis.peak.row is None
    assert analysis.timing.phases == []
    assert codes(analysis)["no-phases"] == "note"
    assert paragraphs(analysis)


def test_run_without_a_step(tmp_path: Path) -> None:
    analysis = analyze_records(tmp_path, [next(iter(records(SMALL)))])
    assert analysis.peak is None
    assert headline(analysis) == "This trace holds no memory figures."
    assert "before its first step" in analysis.findings[0].title


def test_killed_run_says_where(tmp_path: Path) -> None:
    run = [r for r in records(SMALL) if r["type"] != "end"]
    begun = {"type": "begin", "phase": "step", "step": 13, "layer": None, "t": 10**10}
    finding = analyze_records(tmp_path, [*run, begun]).findings[0]
    assert (finding.severity, finding.code) == ("error", "no-end")
    assert "at step 13" in finding.title
    last = max(i for i, r in enumerate(run) if r["type"] == "phase" and r["phase"] == "backward")
    analysis = analyze_records(tmp_path, run[: last + 1])
    assert "at step 12, in the backward of layer 0" in analysis.findings[0].title
    assert analysis.status == "unfinished"


def test_how_it_ended(tmp_path: Path) -> None:
    run = list(records(SMALL))
    run[-1] |= {"status": "failed", "error": "no space left"}
    analysis = analyze_records(tmp_path, run)
    assert codes(analysis) == {"failed": "error"}
    assert analysis.findings[0].detail == "no space left."
    run[-1] |= {"status": "stopped", "error": None}
    assert codes(analyze_records(tmp_path, run)) == {"stopped": "note"}
    reason = "the held-out loss was not below 1.5, that of step 4, in 3 evaluations"
    run[-1] |= {"status": "completed", "reason": reason}
    analysis = analyze_records(tmp_path, run)
    assert codes(analysis) == {"ended-early": "note"}
    [finding] = analysis.findings
    assert finding.title == "The run ended early, after 12 steps"
    assert finding.detail == f"T{reason[1:]}."
    assert analysis.to_json()["reason"] == reason


@pytest.mark.parametrize("detail", ["full", "steps"])
def test_the_adapter_that_was_kept_is_named(tmp_path: Path, detail: str) -> None:
    run = list(records(replace(SMALL, detail=detail)))
    before = analyze_records(tmp_path, run).storage
    for step in (4, 8, 4):  # the last is of the run going on from before step 8
        event = {"type": "event", "t": run[-1]["t"], "event": "best", "step": step}
        run.append(event | {"detail": f"step {step}", "written_bytes": 1_000_000})
    assert analyze_records(tmp_path, run).training.kept_step is None
    run[0]["settings"]["keep"] = "best"
    analysis = analyze_records(tmp_path, run)
    assert analysis.training.kept_step == 4
    assert analysis.to_json()["training"]["kept_step"] == 4
    text = " ".join(paragraphs(analysis))
    assert "; the adapter of step 4, the best there, is kept." in text
    assert analysis.storage.saves == before.saves
    assert analysis.storage.saved_bytes == max(before.saved_bytes, 3_000_000)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"swap": True}, "swap"),
        ({"cold_cache": True}, "major-faults"),
        ({"hwm_reset": False}, "no-hwm-reset"),
        ({"throttle": True}, "slowdown"),
        ({"throttle": True, "phone": True, "steps": 60, "layers": 20}, "throttling"),
    ],
)
def test_warnings(tmp_path: Path, change: dict, code: str) -> None:
    assert set(codes(analyze(tmp_path, replace(SMALL, **change)))) == {code}


def test_weights_read_in_every_step(tmp_path: Path) -> None:
    run = list(records(SMALL))
    base_bytes = next(r for r in run if r["type"] == "run")["bundle"]["base_bytes"]
    phases = [r for r in run if r["type"] == "phase" and r.get("step")]
    steps = max(r["step"] for r in phases)
    for share, found in ((0.4, {}), (1.6, {"weights-from-storage": "note"})):
        for record in phases:
            record["io"]["read_bytes"] = round(share * base_bytes * steps / len(phases))
        assert codes(analyze_records(tmp_path, run)) == found
    run[0]["bundle"].pop("base_bytes")
    assert codes(analyze_records(tmp_path, run)) == {}


def test_hot_device(tmp_path: Path) -> None:
    run = list(records(replace(SMALL, phone=True)))
    next(r for r in run if r["type"] == "sample")["thermal"][0]["celsius"] = 71.0
    finding = analyze_records(tmp_path, run).findings[0]
    assert (finding.code, finding.title) == ("hot", "The hottest thermal zone reached 71 °C")


def test_losses_that_are_not_finite(tmp_path: Path) -> None:
    run = list(records(SMALL))
    for record in run:
        if record["type"] == "step" and record["step"] > 9:
            record["loss"] = None
    analysis = analyze_records(tmp_path, run)
    assert analysis.training.missing_losses == 3
    assert codes(analysis) == {"loss-not-finite": "error"}


def test_rising_loss(tmp_path: Path) -> None:
    run = list(records(SMALL))
    for record in run:
        if record["type"] == "step":
            record["loss"] = float(record["step"])
    assert codes(analyze_records(tmp_path, run)) == {"loss-rose": "warning"}


def test_json_is_standard_and_complete(tmp_path: Path) -> None:
    run = list(records(SMALL))
    next(r for r in run if r["type"] == "step")["loss"] = None
    value = analyze_records(tmp_path, run).to_json()
    copy = json.loads(json.dumps(value, allow_nan=False))
    assert copy["peak"]["bytes"] == value["peak"]["bytes"]
    assert copy["training"]["loss"][0] == [1, None]
    assert len(copy["training"]["loss"]) == 12
    assert copy["run"]["settings"]["optimizer"] == "adamw"


MAPPED = [
    {"name": "/lib/libc.so.6", "rss": 1500},
    {"name": "/bundle/programs.pte", "rss": 100},
    {"name": "[heap]", "rss": 2000, "anonymous": 2000},
    {"name": "[stack]", "rss": 40, "anonymous": 40},
    {"name": "", "rss": 9000, "anonymous": 9000},
    {"name": "/bundle/base.ptd", "rss": 5000},
]


def test_what_the_ledger_lacks_is_named_from_the_mappings(tmp_path: Path) -> None:
    """The runtime's 2,000 KiB stand for code and files first, then for stacks and allocator."""
    ledger = {"base": 5000, "arena": 6000, "scratch": 2500, "runtime": 2000}
    known = {name: kib * KIB for name, kib in ledger.items()}
    run = [next(iter(records(SMALL)))]
    run.append(
        {"type": "phase", "phase": "backward", "step": 1, "layer": 0, "begin": 0, "end": 9,
         "mem": {"hwm": 18_000}, "ledger": known}
    )  # fmt: skip
    run.append({"type": "smaps", "step": 1, "phase": "backward", "entries": MAPPED})
    peak = analyze_records(tmp_path, run).peak
    assert peak.parts[-1].bytes == 2500 * KIB
    found = {part.name: part.bytes / KIB for part in peak.rest}
    assert found == {
        "allocator": 2000 - (2000 - 1500 - 100 - 40),
        "slack of buffers, stacks of threads": 9000 - 8500,
        "not there when the mappings were read": 2500 - 1640 - 500,
    }
    run[1]["mem"]["hwm"] = 16_000
    rest = analyze_records(tmp_path, run).peak.rest
    assert [part.bytes for part in rest] == [500 * KIB], "never more than there is to explain"
    run[1]["mem"]["hwm"] = 15_000
    assert analyze_records(tmp_path, run).peak.rest == []
    del run[2]
    assert analyze_records(tmp_path, run).peak.rest == []
