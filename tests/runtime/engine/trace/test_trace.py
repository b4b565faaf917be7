"""What a run writes down: valid records, kernel-accounted memory, honest counts."""

import json
import subprocess
from itertools import pairwise

import pytest

from tests.runtime.running import ROOT, flags, records, run, trainer
from toolkit import BUNDLE_FORMAT_VERSION
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.files import sha256_file
from toolkit.trace.reader import read_trace
from toolkit.trace.schema import CATEGORIES

STEPS = 3
LAYERS = 3
SEQUENCES = 2


@pytest.fixture(scope="module")
def traced(make_case, tmp_path_factory):
    case = make_case()
    return case.train(
        tmp_path_factory.mktemp("traced") / "run",
        steps=STEPS,
        save_every=2,
        grad_accum=SEQUENCES,
        checkpoints="spill",
        eval_data=case.data,
    )


def test_the_reader_accepts_every_record(traced):
    trace = read_trace(traced)
    assert not trace.left_out, trace.left_out
    kinds = [record["type"] for record in records(traced)]
    assert kinds[0] == "run"
    assert kinds[-1] == "end"
    assert kinds.count("begin") == kinds.count("step") == STEPS
    assert kinds.count("smaps") == 1


def test_the_run_record_says_what_ran(traced, make_case):
    run_record = records(traced, "run")[0]
    case = make_case()
    assert run_record["version"] == 1
    assert run_record["model"] == "tiny-llama"
    assert run_record["lowering"] == "mesp"
    assert run_record["resumed_from"] is None
    assert run_record["settings"]["grad_accum"] == 2
    assert run_record["settings"]["bundle"] == str(case.bundle)
    assert run_record["bundle"] == {
        "layers": LAYERS,
        "hidden_size": 64,
        "vocab_size": 150,
        "seq_len": 24,
        "rank": 4,
        "alpha": 8,
        "base_bytes": (case.bundle / "base.ptd").stat().st_size,
        # Rank 4 times inputs and outputs of q, k, v, o and of gate, up, down.
        "adapter_parameters": LAYERS * 4 * ((128 + 96 + 96 + 128) + 3 * (64 + 96)),
        "programs_sha256": sha256_file(case.bundle / "programs.pte"),
        "base_sha256": FlatTensorReader(case.bundle / "base.ptd").sha256().hex(),
        "adapter_sha256": FlatTensorReader(case.adapter).sha256().hex(),
        "tokenizer": "",
    }
    assert run_record["data"] == {
        "sequences": 4,
        "sha256": FlatTensorReader(case.data).sha256().hex(),
        "tokenizer": "",
    }
    device = run_record["device"]
    assert device["threads"] == 1
    assert device["memory_total_kib"] > device["memory_available_kib"] > 0
    assert device["hwm_reset"] is True


def test_every_step_has_its_phases_in_order(traced):
    layers = list(range(LAYERS))
    block = [("backward", layer) for layer in reversed(layers)]
    update = [("optimizer", layer) for layer in reversed(layers)]
    expected = [("embed", None), *[("forward", layer) for layer in layers], ("head", None)]
    expected += [phase for pair in zip(block, update, strict=True) for phase in pair]
    phases = records(traced, "phase")
    for step in range(1, STEPS + 1):
        names = [(p["phase"], p["layer"]) for p in phases if p["step"] == step]
        assert names[: len(expected)] == expected
    assert [p["step"] for p in phases if p["phase"] == "save"] == [2, 3]
    assert [p["step"] for p in phases if p["phase"] == "evaluate"] == [0, 3]
    assert phases[0]["phase"] == "load"
    for before, after in pairwise(phases):
        assert before["begin"] <= before["end"] <= after["begin"]


def test_memory_is_what_the_kernel_says(traced):
    for phase in records(traced, "phase"):
        memory = phase["mem"]
        rss = memory["rss_anon"] + memory["rss_file"] + memory["rss_shmem"]
        # RSS counters are summed from per-core parts and lag by some pages.
        assert rss <= memory["hwm"] + 512
        assert set(phase["ledger"]) == set(CATEGORIES)
        assert all(value >= 0 for value in phase["ledger"].values())
        assert all(value >= 0 for value in phase["io"].values())
    last = records(traced, "phase")[-1]["ledger"]
    floats = records(traced, "run")[0]["bundle"]["adapter_parameters"]
    assert last["adapters"] >= 4 * floats
    assert last["optimizer"] == 2 * last["adapters"]
    assert last["gradients"] * LAYERS == 2 * last["adapters"]  # one layer's, and one to add
    backward = [p for p in records(traced, "phase") if p["phase"] == "backward"]
    assert all(p["ledger"]["arena"] > 0 and p["ledger"]["scratch"] > 0 for p in backward)


def test_the_ledger_explains_the_high_water_mark(traced):
    """No category is derived from the mark, so that their sum can be held against it."""
    for phase in records(traced, "phase"):
        if phase["phase"] in ("forward", "head", "backward") and phase["step"] > 1:
            mark = phase["mem"]["hwm"] * 1024
            # Of a tiny model's buffers whole pages stay untouched.
            assert abs(sum(phase["ledger"].values()) - mark) <= 0.05 * mark + 512 * 1024, phase


def test_code_of_the_start_is_given_back(traced):
    """Libraries are read in full when they are loaded; steps take little of them."""
    phases = records(traced, "phase")
    files = {phase["phase"]: phase["mem"]["rss_file"] for phase in phases if phase["step"] <= 1}
    assert files["optimizer"] < 0.9 * files["load"]


def test_operators_account_for_the_time_of_their_phases(traced):
    phases = records(traced, "phase")
    for name, operator in (
        ("embed", "quantized_embedding"),
        ("forward", "swiglu_mlp"),
        ("head", "linear_cross_entropy"),
        ("backward", "swiglu_mlp_backward"),
    ):
        for phase in (p for p in phases if p["phase"] == name):
            times = phase["operators"]
            assert times[operator]["calls"] == SEQUENCES
            assert all(time["ns"] >= 0 for time in times.values())
            assert sum(t["ns"] for t in times.values()) <= phase["end"] - phase["begin"]
    assert all(p["operators"] == {} for p in phases if p["phase"] in ("load", "optimizer", "save"))


def test_peaks_of_steps_and_run_are_those_of_the_phases(traced):
    phases = records(traced, "phase")
    for step in records(traced, "step"):
        peaks = [
            p["mem"]["hwm"]
            for p in phases
            if p["step"] == step["step"] and p["phase"] not in ("save", "evaluate")
        ]
        assert step["peak"] == max(peaks)
    highest = max(phase["mem"]["hwm"] for phase in phases)
    assert highest <= records(traced, "end")[0]["peak"] <= highest + 1024


def test_the_mappings_are_recorded_once(traced):
    smaps = records(traced, "smaps")[0]
    assert smaps["step"] == 2
    assert sum(entry["rss"] for entry in smaps["entries"]) > 1000
    names = [entry["name"] for entry in smaps["entries"]]
    assert any(name.endswith("/trainer") for name in names)
    assert len(set(names)) == len(names)


def test_a_longer_run_is_sampled_from_the_background(make_case, tmp_path):
    case = make_case()
    out = tmp_path / "run"
    words = flags(bundle=case.bundle, data=case.data, out=out, steps=1000000, threads=1)
    process = subprocess.Popen([trainer(), "train", *words], stdout=subprocess.DEVNULL)
    try:
        process.wait(2.2)
    except subprocess.TimeoutExpired:
        process.terminate()
    assert process.wait(60) == 0
    samples = records(out, "sample")
    assert len(samples) >= 2
    assert all(s["pss"] > 0 and s["mem"]["rss_anon"] > 0 for s in samples)
    gaps = [b["t"] - a["t"] for a, b in pairwise(samples)]
    assert min(gaps) >= 0.45e9


@pytest.mark.parametrize(
    ("level", "kinds"), [("steps", {"run", "begin", "step", "event", "end"}), ("off", set())]
)
def test_less_detail_on_request(make_case, tmp_path, level, kinds):
    out = make_case().train(tmp_path / "run", trace=level)
    assert {record["type"] for record in records(out)} == kinds
    if level == "steps":
        assert all(step["peak"] > 1000 for step in records(out, "step"))


def test_progress_is_printed(make_case, tmp_path):
    case = make_case()
    result = run("train", **case.options(tmp_path / "run", steps=2))
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("step 2/2  loss ")


def test_info_describes_the_runtime():
    line = json.loads(run("info").stdout)
    assert line["version"] == "0.1.0"
    assert line["format_version"] == BUNDLE_FORMAT_VERSION
    assert line["abi"] in ("x86_64", "arm64-v8a")
    assert line["threads"] >= 1


def test_the_header_is_c(tmp_path):
    source = tmp_path / "use.c"
    source.write_text(
        '#include "hosts/toolkit_trainer.h"\n'
        "int use(void) { toolkit_trainer* t = 0; int32_t more = 0;\n"
        '  toolkit_option o = {"steps", "1"}; toolkit_trainer_create(&o, 1, &t);\n'
        "  return toolkit_trainer_step(t, &more); }\n"
    )
    command = ["gcc", "-std=c99", "-Wall", "-Werror", "-fsyntax-only", "-I"]
    subprocess.run([*command, ROOT / "toolkit" / "runtime", source], check=True)
