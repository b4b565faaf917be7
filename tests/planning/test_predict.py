"""Predictions on real shapes: against runs of them, and against counting by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.trainer import read_trace, run_trainer
from toolkit.bundle.adapter import LoraSettings
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.bundle.layout import parameter_shapes
from toolkit.data.dataset import random_rows, write_rows
from toolkit.planning.checkpoints import plan_checkpoints
from toolkit.planning.cost import work_of
from toolkit.planning.model import open_model
from toolkit.planning.predict import Planner
from toolkit.planning.scratch import Kernels
from toolkit.planning.settings import Machine
from toolkit.recipes import get_recipe
from toolkit.sources.random import RandomSource

LENGTHS = (64, 256)
RUNS = [
    (64, "exact", "adamw", "ram", 1),
    (64, "exact", "sgd", "ram", 4),
    (256, "exact", "sgd", "ram", 1),
    (256, "exact", "adamw", "spill", 2),
    (256, "mezo", "sgd", "auto", 1),
]
TOLERANCE = 0.04  # RESERVE of toolkit.planning.search: what a prediction may be wrong by
FOLIOS = 3e6  # of weights, where the page cache holds their file in pieces that are mapped whole


@pytest.fixture(scope="module")
def smol() -> Planner:
    return Planner(open_model("smollm2-135m"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of SmolLM2-135M's shape."""
    recipe = get_recipe("smollm2-135m")
    config = recipe.model_config()
    source = RandomSource(config, parameter_shapes(config), recipe.name, 0)
    lora = LoraSettings(recipe.rank, float(recipe.alpha), recipe.targets)
    folder = tmp_path_factory.mktemp("smollm2") / "bundle"
    export_bundle(source, folder, ExportSettings(lora, LENGTHS))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("seq_len", "method", "optimizer", "place", "sequences"), RUNS)
def test_peaks_are_what_the_kernel_counts(
    exported: Path,
    tmp_path: Path,
    seq_len: int,
    method: str,
    optimizer: str,
    place: str,
    sequences: int,
) -> None:
    """The peak of a real run (VmHWM), with a model as large as people have."""
    model = open_model(str(exported))
    settings = replace(
        model.settings,
        seq_len=seq_len,
        method=method,
        optimizer=optimizer,
        checkpoints=place,
        sequences=sequences,
    )
    write_rows(tmp_path / "data.ptd", random_rows(8, seq_len, 49152, 0))
    words = {"bundle": exported, "data": tmp_path / "data.ptd", "out": tmp_path / "run"}
    words |= {"steps": 2, "threads": 2, "optimizer": optimizer, "checkpoints": place}
    words |= {"method": method}
    words |= {"grad-accum": sequences, "trace": "full"}
    flags = [word for name, v in words.items() for word in (f"--{name}", v)]
    [dry] = run_trainer("dry-run", *flags)
    run_trainer("train", *flags)
    [device] = [record["device"] for record in read_trace(tmp_path / "run", "run")]
    measured = max(p["mem"]["hwm"] for p in read_trace(tmp_path / "run", "phase")) * 1024
    prediction = Planner(model).predict(settings, Machine(kernels=Kernels(device["isa"], 2)))
    assert sum(prediction.memory.values()) == prediction.peak
    for peak in (prediction.peak, dry["peak_bytes"]):
        assert peak > measured * (1 - TOLERANCE) - FOLIOS
        assert peak < measured * (1 + TOLERANCE)
    print(f"measured {measured / 1e6:.1f} MB, dry run {dry['peak_bytes'] / 1e6:.1f} MB")


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
    mebp = smol.predict(replace(settings, lowering="mebp"), Machine())
    assert mebp.memory["arena"] > 3 * mesp.memory["arena"]
    assert mebp.base_bytes == mesp.base_bytes
    sgd = smol.predict(replace(settings, optimizer="sgd"), Machine())
    assert sgd.memory["optimizer"] == 0
    mezo = smol.predict(replace(settings, method="mezo", optimizer="sgd"), Machine())
    assert [p.name for p in mezo.phases] == ["embed", "forward", "head", "optimizer"]
    assert mezo.memory["gradients"] == mezo.memory["optimizer"] == mezo.written == 0
    assert mezo.peak < sgd.peak and 0.6 < mezo.seconds / sgd.seconds < 0.9
    assert mesp.memory["optimizer"] == 2 * mesp.memory["adapters"]
    # A save: the adapter for use and for a resume, moments, and the adapter that is kept.
    kept = smol.predict(replace(settings, keep_checkpoints=3), Machine())
    assert (sgd.saved, mesp.saved, kept.saved) == tuple(
        copies * 4 * mesp.adapter_parameters for copies in (2, 4, 5)
    )
    assert kept.memory == mesp.memory


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


@pytest.mark.parametrize("sequences", [1, 3])
def test_what_layers_keep_beside_their_inputs(sequences: int) -> None:
    layers, state = 8, 100_000
    ram = plan_checkpoints(layers, sequences, state, "ram", None, kept=1)
    assert ram.bytes == ((2 * layers + 1) * sequences + 1) * state
    spill = plan_checkpoints(layers, sequences, state, "spill", None, kept=1)
    # Beside every sequence's gradient the input of one block and what that one kept.
    assert spill.bytes == (sequences + 2) * state
    assert spill.written == 2 * layers * sequences * state == spill.read


@pytest.mark.parametrize("place", ["ram", "spill"])
def test_layers_below_the_adapters_keep_no_state(place: str) -> None:
    state, sequences = 100_000, 3
    whole = plan_checkpoints(8, sequences, state, place, None)
    upper = plan_checkpoints(2, sequences, state, place, None, below=6)
    assert upper == plan_checkpoints(2, sequences, state, place, None)
    assert upper.bytes <= whole.bytes and upper.written == whole.written / 4


def test_few_layers_with_adapters_take_less(smol: Planner) -> None:
    """Of 30 layers, the backward of six, their states, adapters and moments."""
    settings = open_model("smollm2-135m").settings
    whole = smol.predict(settings, Machine())
    upper = smol.predict(replace(settings, layers="last:6"), Machine())
    few, all_of_them = ({p.name: p.seconds for p in found.phases} for found in (upper, whole))
    assert few["backward"] == pytest.approx(all_of_them["backward"] / 5)
    assert few["forward"] < all_of_them["forward"]
    assert few["head"] == all_of_them["head"]
    for name in ("adapters", "optimizer"):
        assert upper.memory[name] == whole.memory[name] / 5
    assert upper.adapter_parameters == whole.adapter_parameters / 5
    state = 256 * 576 * 4
    assert whole.memory["checkpoints"] - upper.memory["checkpoints"] == 24 * state
    assert upper.base_bytes == whole.base_bytes


def test_windows_take_less_attention() -> None:
    model = open_model("gemma3-270m")
    programs = Planner(model).programs(replace(model.settings, seq_len=1024))
    local, whole = (
        work_of(programs[f"{kind}_block_backward"].operations).attention
        for kind in ("local", "global")
    )
    assert local / whole == pytest.approx((1024 * 512 - 512 * 511 / 2) / (1024 * 1025 / 2))


def test_many_sequences_leave_memory_while_they_rest() -> None:
    state, sequences = 2_000_000, 8
    spill = plan_checkpoints(4, sequences, state, "spill", None)
    assert spill.bytes == 2 * state
    assert spill.written > 4 * sequences * state


def test_where_states_wait_by_default() -> None:
    """The same rule as the trainer's, see test_checkpoints_go_to_storage_when_memory_is_short."""
    mib = 1 << 20
    assert not plan_checkpoints(99, 1, mib, "auto", None).spilled
    assert not plan_checkpoints(15, 1, mib, "auto", 64 * mib).spilled
    assert plan_checkpoints(16, 1, mib, "auto", 64 * mib).spilled
    assert not plan_checkpoints(99, 1, mib, "auto", 400 * mib).spilled
    assert plan_checkpoints(1, 1, 1, "spill", None).spilled
    assert not plan_checkpoints(99, 1, mib, "ram", 1).spilled


def test_the_time_of_small_products(smol: Planner) -> None:
    """mlorc's moments are taken apart and put together again on one thread."""
    settings = replace(open_model("smollm2-135m").settings, optimizer="mlorc")
    speed = Machine().speed
    d, f, kv, rank = 576, 1536, 192, 8
    tall = 2 * (d + d) + 2 * (d + kv) + 3 * (d + f)  # what seven A and B have beside their rank
    half = 30 * 2 * (tall * (rank * (rank + 1) // 2 + 2 * 4 * rank) + 14 * 17 * rank**3)
    seconds = smol.predict(settings, Machine()).phases[-1].seconds
    # At half the rank the state is the adapters, and a basis of 8 x 4 for each.
    passes = 30 * (2 * rank * tall + 14 * 2 * rank * rank // 2) / speed.updated
    assert seconds == pytest.approx(passes + half / speed.low_rank, rel=1e-4)
    whole = smol.predict(replace(settings, projection_rank=rank), Machine())
    adamw = smol.predict(replace(settings, optimizer="adamw"), Machine())
    assert whole.phases[-1].seconds == adamw.phases[-1].seconds
