"""Predictions against the real trainer: every category of its ledger, to the byte.

A change of the engine, of a kernel's scratch or of ExecuTorch's planning shows here.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.planning.conftest import LENGTHS, TinyRun
from tests.support.trainer import run_trainer
from toolkit.planning.arena import arena_bytes
from toolkit.planning.model import open_model
from toolkit.planning.predict import Planner, scratch_of_step
from toolkit.planning.scratch import Kernels
from toolkit.planning.settings import Machine

GRANULE = 64 << 10  # what the workspace's size is a multiple of
EXACT = ("adapters", "optimizer", "gradients", "checkpoints")
CASES = [
    {"optimizer": "adamw"},
    {"optimizer": "sgd", "threads": 1},
    {"optimizer": "lion", "threads": 1},
    {"optimizer": "sgd", "momentum": 0.9, "max_grad_norm": 1.0, "grad_accum": 3},
    {"optimizer": "adamw-8bit", "max_grad_norm": 1.0, "clipping": "twice", "grad_accum": 2},
    {"optimizer": "lomo", "max_grad_norm": 1.0, "clipping": "last-norm"},
    {"optimizer": "adamw", "freeze": "a", "max_grad_norm": 1.0, "grad_accum": 2},
    {"optimizer": "adalomo"},
    {"optimizer": "apollo", "projection_rank": 2},
    {"optimizer": "apollo-mini"},
    {"optimizer": "mlorc", "projection_rank": 2},
    {"optimizer": "adamw", "state": "spill", "max_grad_norm": 1.0, "grad_accum": 2},
    {"optimizer": "adamw-8bit", "state": "spill", "checkpoints": "spill"},
    {"optimizer": "adamw", "checkpoints": "spill", "threads": 3},
    {"optimizer": "sgd", "checkpoints": "spill", "grad_accum": 2, "batch_size": 2},
    {"optimizer": "sgd", "checkpoints": "spill", "grad_accum": 7, "max_grad_norm": 1.0},
    {"optimizer": "adamw", "grad_accum": 5, "seq_len": LENGTHS[0]},
    {"optimizer": "adamw", "method": "lcsb", "blocks": 1, "grad_accum": 2},
    {"optimizer": "sgd", "method": "mezo", "threads": 1},
    {"optimizer": "sgd", "method": "mezo", "grad_accum": 3, "batch_size": 2},
    {"optimizer": "sgd", "method": "mezo", "grad_accum": 125},
    {"optimizer": "sgd", "method": "sparse-mezo", "state": "spill"},
    {"optimizer": "sgd", "method": "mobizo", "queries": 3, "grad_accum": 2},
    {"optimizer": "sgd", "method": "mobizo", "queries": 3, "seq_len": LENGTHS[0]},
]


@pytest.mark.parametrize("seq_len", LENGTHS)
def test_the_arena_is_what_executorch_plans(bundle: Path, seq_len: int) -> None:
    model = open_model(str(bundle))
    programs = Planner(model).programs(replace(model.settings, seq_len=seq_len))
    methods = json.loads((bundle / "manifest.json").read_text())["methods"]
    for name, program in programs.items():
        planned = methods[f"{name}_t{seq_len}"]["arena_bytes"]
        assert arena_bytes(program) == -(-planned // 64) * 64, name


FAULT_AROUND = 64 << 10
HEADERS = 64 << 10  # of the files of a run


@pytest.mark.parametrize("flags", CASES, ids=lambda flags: "-".join(map(str, flags.values())))
def test_the_ledger_is_predicted(
    bundle: Path, train: Callable[..., TinyRun], flags: dict[str, Any]
) -> None:
    flags = {"seq_len": LENGTHS[1] // flags.get("batch_size", 1), **flags}
    seq_len = flags.pop("seq_len")
    run = train(seq_len, **flags)
    model = open_model(str(bundle))
    settings = replace(
        model.settings,
        seq_len=seq_len,
        method=flags.get("method", "exact"),
        queries=flags.get("queries", 0),
        blocks=flags.get("blocks", 0),
        optimizer=flags["optimizer"],
        momentum=flags.get("momentum", 0.0),
        max_grad_norm=flags.get("max_grad_norm", 0.0),
        clipping=flags.get("clipping", "keep"),
        freeze=flags.get("freeze", "none"),
        projection_rank=flags.get("projection_rank", 0),
        state=flags.get("state", "auto"),
        sequences=flags.get("grad_accum", 1) * flags.get("batch_size", 1),
        batch_size=flags.get("batch_size", 1),
        checkpoints=flags.get("checkpoints", "auto"),
    )
    kernels = Kernels(run.device["isa"], run.device["threads"])
    planner = Planner(model)
    prediction = planner.predict(settings, Machine(kernels=kernels))
    scratch = scratch_of_step(
        planner.traced(settings),
        kernels,
        settings.how.backward,
        b_alone=settings.freeze == "a",
        together=settings.together,
    )
    needed = {phase.name: phase.memory["arena"] for phase in prediction.phases}
    for phase in prediction.phases:
        measured = [p for p in run.phases if p["phase"] == phase.name and p["step"] == 2]
        assert measured, phase.name
        ledger = measured[-1]["ledger"]
        # Of a state that is spilled a layer without an adapter has nothing in memory.
        held = {c: max(p["ledger"][c] for p in measured) for c in EXACT}
        expected = {c: phase.memory[c] for c in EXACT}
        # What a page fault maps around itself is there before a small state is used: no new peak.
        small = flags.get("state") == "spill" and expected["optimizer"] < FAULT_AROUND
        if small and held["optimizer"] == 0:
            expected["optimizer"] = 0
        assert held == expected
        # Where the weights are as small as here, a phase can be at its peak before it has shrunk
        # the arena to what it needs, from what the phase before had at its end, or at its peak.
        arena = phase.memory["arena"]
        before = run.phases[run.phases.index(measured[-1]) - 1]
        left = (needed.get(before["phase"], 0), before["ledger"]["arena"])
        assert ledger["arena"] in {arena, *(max(arena, size) for size in left)}, phase.name
        assert ledger["scratch"] == -(-scratch // GRANULE) * GRANULE
        assert phase.memory["scratch"] == scratch

    check_dry_run(run)


def check_dry_run(run: TinyRun) -> None:
    """Hold what the engine said before against what it did."""
    dry = run.dry
    measured = [p for p in run.phases if p["phase"] == dry["phase"] and p["step"] == 2]
    held = {c: max(p["ledger"][c] for p in measured) for c in (*EXACT, "scratch")}
    assert {c: dry["memory"][c] for c in held} == held
    assert dry["peak_bytes"] == sum(dry["memory"].values())
    last = run.steps[-1]
    assert dry["spilled_bytes"] == last["spilled_bytes"]
    assert dry["state_bytes"] == last["state_bytes"]
    assert run.stored <= dry["storage_bytes"] + HEADERS
    assert run.stored >= dry["saved_bytes"]


def test_a_dry_run_of_what_cannot_be_trained_says_why(bundle: Path, tmp_path: Path) -> None:
    words = ["dry-run", "--bundle", bundle, "--out", tmp_path / "run", "--steps", 2]
    for more, why in (
        (["--data", tmp_path / "none.ptd"], "cannot open"),
        (["--data", tmp_path / "none.ptd", "--method", "split", "--cut", 1], "on a computer"),
        ([], "--data"),
    ):
        with pytest.raises(AssertionError, match=why):
            run_trainer(*words, *more)
    assert not list(tmp_path.iterdir())


def test_the_shape_is_predicted(bundle: Path, train: Callable[..., TinyRun]) -> None:
    model = open_model(str(bundle))
    prediction = Planner(model).predict(model.settings, Machine())
    manifest = json.loads((bundle / "manifest.json").read_text())
    base = manifest["base"]
    assert prediction.adapter_parameters == manifest["lora"]["parameters"]
    assert prediction.base_bytes == base["embedding"] + sum(base["blocks"]) + base["rest"]
