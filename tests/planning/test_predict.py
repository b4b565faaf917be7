"""Predictions on real shapes: against measurements made before, and against counting by hand."""

from dataclasses import replace

import pytest

from toolkit.planning.checkpoints import plan_checkpoints
from toolkit.planning.cost import work_of
from toolkit.planning.model import open_model
from toolkit.planning.predict import Planner
from toolkit.planning.scratch import Kernels
from toolkit.planning.settings import Machine
from toolkit.planning.workspace import Workspace

# Peaks of tools/bench/plan_accuracy.py on x86-64 with AVX-512, two threads, in MB (VmHWM).
MEASURED = [
    (64, "mesp", "adamw", "ram", 1, 43.2),
    (64, "mebp", "sgd", "spill", 2, 21.3),
    (64, "mesp", "sgd", "ram", 4, 37.7),
    (256, "mesp", "sgd", "ram", 1, 42.3),
    (256, "mebp", "adamw", "ram", 1, 71.3),
    (256, "mesp", "adamw", "spill", 2, 45.0),
]


@pytest.fixture(scope="module")
def smol() -> Planner:
    return Planner(open_model("smollm2-135m"))


@pytest.mark.parametrize(("seq_len", "method", "optimizer", "place", "sequences", "peak"), MEASURED)
def test_peaks_that_were_measured(
    smol: Planner,
    seq_len: int,
    method: str,
    optimizer: str,
    place: str,
    sequences: int,
    peak: float,
) -> None:
    settings = replace(
        open_model("smollm2-135m").settings,
        seq_len=seq_len,
        method=method,
        optimizer=optimizer,
        checkpoints=place,
        sequences=sequences,
    )
    prediction = smol.predict(settings, Machine(kernels=Kernels("avx512", 2)))
    assert prediction.peak / 1e6 == pytest.approx(peak, rel=0.04)
    assert prediction.highest.name == "backward"
    assert sum(prediction.memory.values()) == prediction.peak


def test_work_is_what_the_formulas_say(smol: Planner) -> None:
    settings = open_model("smollm2-135m").settings
    programs = smol.programs(settings)
    tokens, d, f, kv, rank = 256, 576, 1536, 192, 8
    attention = 2 * d * d + 2 * d * kv
    weights = attention + 3 * d * f
    small = rank * (2 * (d + d) + 2 * (d + kv) + 3 * (d + f))
    forward = work_of(programs["block_forward"].operations)
    assert forward.products == 2 * tokens * (weights + small)
    assert forward.attention == 2 * tokens * tokens * d
    assert forward.unpacked == weights
    backward = work_of(programs["block_backward"].operations)
    # The projections of attention forward and backward, five products in the MLP's sweep.
    assert backward.unpacked == 2 * attention + 5 * d * f
    head = work_of(programs["head_backward"].operations)
    assert head.products == 2 * 2 * tokens * d * 49152


def test_methods_differ_as_they_should(smol: Planner) -> None:
    settings = open_model("smollm2-135m").settings
    mesp = smol.predict(settings, Machine())
    mebp = smol.predict(replace(settings, method="mebp"), Machine())
    assert mebp.memory["arena"] > 3 * mesp.memory["arena"]
    assert mebp.base_bytes == mesp.base_bytes
    sgd = smol.predict(replace(settings, optimizer="sgd"), Machine())
    assert sgd.memory["optimizer"] == 0
    assert mesp.memory["optimizer"] == 2 * mesp.memory["adapters"]


@pytest.mark.parametrize("layers", [1, 2, 30])
@pytest.mark.parametrize("sequences", [1, 3])
def test_hidden_states(layers: int, sequences: int) -> None:
    state = 100_000
    ram = plan_checkpoints(layers, sequences, state, "ram", None)
    assert ram.bytes == ((layers + 1) * sequences + 1) * state and ram.written == 0
    spill = plan_checkpoints(layers, sequences, state, "spill", None)
    # Every sequence's gradient and the hidden state of one of them.
    assert spill.bytes == (sequences + 1) * state
    assert spill.written == layers * sequences * state == spill.read


def test_many_sequences_leave_memory_while_they_rest() -> None:
    state, sequences = 2_000_000, 8
    spill = plan_checkpoints(4, sequences, state, "spill", None)
    assert spill.bytes == 2 * state
    assert spill.written > 4 * sequences * state


def test_where_states_wait_by_default() -> None:
    assert not plan_checkpoints(9, 1, 1 << 20, "auto", None).spilled
    assert plan_checkpoints(16, 1, 1 << 20, "auto", None).spilled
    assert plan_checkpoints(9, 1, 1 << 20, "auto", 64 << 20).spilled


def test_the_workspace_grows_to_the_largest_operator() -> None:
    workspace = Workspace()
    with workspace.scope():
        workspace.floats(100)
        workspace.floats(200_000)
    assert workspace.bytes == 64 * 1024 + 13 * 64 * 1024
    assert workspace.resident == 0
    with workspace.scope():
        workspace.floats(1000)
        with workspace.scope():
            workspace.floats(3000)
        workspace.floats(10)
    assert workspace.resident == 4032 + 12032
    assert workspace.bytes == 14 * 64 * 1024
