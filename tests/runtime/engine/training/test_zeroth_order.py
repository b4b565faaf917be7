"""Zeroth-order methods against PyTorch with the same directions, and their runs made again."""

import json
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.runtime.cases import SEQ_LENS
from tests.runtime.running import error_of, records, run
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader, TensorSpec, write_flat_tensor
from toolkit.choices import ARITHMETICS
from toolkit.data.dataset import Rows, read_rows, write_rows
from toolkit.oracle.gradients import compare, step_gradients
from toolkit.oracle.model import adapter_parameters, build_exact_model
from toolkit.oracle.zeroth_order import direction, train_zeroth_order
from toolkit.replaying.estimates import FILE, read_estimates
from toolkit.replaying.normals import normals
from toolkit.replaying.replay import places, replay
from toolkit.settings.training import TrainSettings

PREFIX = "base_model.model.model."
LOSS = 1e-6
STEPS = 8
SETTINGS = {
    "mezo": {"method": "mezo", "lr": 0.002, "zo_eps": 0.01},
    "decay": {
        "method": "mezo", "lr": 0.002, "zo_eps": 0.02, "weight_decay": 0.1, "lora_plus_ratio": 4,
        "grad_accum": 3, "batch_size": 2, "schedule": "cosine", "warmup_steps": 2,
        "seed": 2**40 + 3,
    },
    "layers": {"method": "mezo", "lr": 0.002, "layers": "0,2", "threads": 2},
    "b-alone": {"method": "mezo", "lr": 0.002, "zo_eps": 0.01, "freeze": "a"},
    "sparse": {"method": "sparse-mezo", "lr": 0.002, "zo_eps": 0.01, "sparsity": 0.7},
    "sparse-decay": {
        "method": "sparse-mezo", "lr": 0.02, "zo_eps": 0.01, "weight_decay": 1, "layers": "last:2",
    },
    "mobizo": {"method": "mobizo", "lr": 0.002, "zo_eps": 0.01, "state": "spill"},
    "mobizo-decay": {
        "method": "mobizo", "queries": 3, "lr": 0.002, "zo_eps": 0.02, "weight_decay": 0.1,
        "grad_accum": 2, "lora_plus_ratio": 4, "layers": "0,2",
    },
}  # fmt: skip


def adapter_of(out):
    tensors = load_file(out / "adapter_model.safetensors")
    return {name.removeprefix(PREFIX): tensor.numpy() for name, tensor in tensors.items()}


def replayed(case, out, steps, adapter=None):
    reader = FlatTensorReader(adapter or case.adapter)
    start = {name: reader.tensor(name).numpy() for name in reader}
    return replay(read_estimates(out), start, 3, steps)


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        assert actual[name].tobytes() == values.tobytes(), name


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("model", [("llama", True, "mesp"), ("qwen2", False, "mebp")], ids=str)
def test_steps_are_those_of_pytorch(make_case, tmp_path, model, name):
    """Losses at both points, the slope between them, and the adapter, given the engine's slopes."""
    case = make_case(*model)
    out = case.train(tmp_path / "run", steps=STEPS, **SETTINGS[name])
    steps, estimates = records(out, "step"), read_estimates(out)
    assert [e.step for e in estimates.steps] == list(range(1, STEPS + 1))
    assert [e.lr for e in estimates.steps] == [step["lr"] for step in steps]
    settings = TrainSettings.of({"steps": STEPS, **SETTINGS[name]})
    slopes = [e.slopes for e in estimates.steps]
    exact = build_exact_model(Bundle.open(case.bundle), case.adapter)
    rates = [step["lr"] for step in steps]
    expected = list(train_zeroth_order(exact, read_rows(case.data), settings, rates, slopes))
    epsilon = settings.effective().zo_eps
    for step, found, wanted in zip(steps, slopes, expected, strict=True):
        assert step["samples"] == wanted.samples
        assert step["grad_norm"] == pytest.approx(np.sqrt(np.mean(np.square(found))), rel=1e-12)
        assert step["loss"] == pytest.approx(wanted.loss, rel=LOSS)
        for slope, right in zip(found, wanted.slopes, strict=True):
            assert abs(slope - right) < LOSS * wanted.loss / epsilon
        if len(found) == 1:  # each loss from what the engine tells of both
            [slope], [plus], [minus] = found, wanted.plus, wanted.minus
            assert step["loss"] + epsilon * slope == pytest.approx(plus, rel=LOSS)
            assert step["loss"] - epsilon * slope == pytest.approx(minus, rel=LOSS)
    wanted = {n: p.detach() for n, p in adapter_parameters(exact).items()}
    actual = {n: torch.from_numpy(values) for n, values in adapter_of(out).items()}
    worst = compare(actual, wanted)[0]
    assert worst.relative < 1e-6, worst


@pytest.mark.parametrize("name", SETTINGS)
def test_the_list_makes_the_adapter_again_bit_by_bit(case, tmp_path, name):
    out = case.train(tmp_path / "run", steps=STEPS, **SETTINGS[name])
    assert_same(replayed(case, out, STEPS), adapter_of(out))
    shorter = case.train(tmp_path / "shorter", steps=3, **SETTINGS[name])
    if "schedule" not in SETTINGS[name]:
        assert_same(replayed(case, out, 3), adapter_of(shorter))
    changed = adapter_of(out)
    start = replayed(case, out, 0)
    layers = {n.split(".")[1] for n in start if start[n].tobytes() != changed[n].tobytes()}
    named = {"0,2": {"0", "2"}, "last:2": {"1", "2"}}
    assert layers == named.get(SETTINGS[name].get("layers"), {"0", "1", "2"})


def test_slopes_are_the_gradients_projection(case, tmp_path):
    """g tends to <gradient, z> as the distance of the losses tends to zero, with its square."""
    exact = build_exact_model(Bundle.open(case.bundle), case.adapter)
    rows = read_rows(case.data)
    right = []
    for step in range(1, STEPS + 1):
        gradients = step_gradients(exact, rows, [(step - 1) % len(rows.tokens)]).tensors
        where = places(gradients)
        right.append(
            sum(float((g * direction(0, where[n], step, g)).sum()) for n, g in gradients.items())
        )
    errors = []
    for epsilon in (0.02, 0.01):
        out = tmp_path / str(epsilon)
        case.train(out, steps=STEPS, method="mezo", zo_eps=epsilon, order="sequential", lr=0)
        found = [estimate.slopes[0] for estimate in read_estimates(out).steps]
        errors.append(np.linalg.norm(np.subtract(found, right)) / np.linalg.norm(right))
    assert errors[1] < 0.05 and 3 < errors[0] / errors[1] < 5, errors


def test_threads_and_rows_at_a_time_do_not_change_the_bits(case, tmp_path):
    first = case.train(tmp_path / "1", steps=4, grad_accum=2, **SETTINGS["mezo"])
    other = case.train(tmp_path / "3", steps=4, grad_accum=2, threads=3, **SETTINGS["mezo"])
    assert (first / FILE).read_bytes() == (other / FILE).read_bytes()
    assert_same(adapter_of(other), adapter_of(first))


@pytest.mark.parametrize("name", ["mezo", "sparse", "mobizo-decay"])
def test_a_resumed_list_has_every_step_once(case, tmp_path, name):
    settings = SETTINGS[name]
    whole = case.train(tmp_path / "whole", steps=STEPS, **settings)
    out = case.train(tmp_path / "run", steps=3, **settings)
    with (out / FILE).open("a") as file:  # what a killed run wrote behind its last save
        file.write('{"type":"step","step":4,"lr":1,"g":[9]}\n{"type":"st')
    case.train(out, steps=STEPS, resume=True, **settings)
    assert_same(adapter_of(out), adapter_of(whole))
    assert read_estimates(out) == read_estimates(whole)
    assert (out / "state.bin").read_bytes() == (whole / "state.bin").read_bytes()


def test_settings_that_change_in_between_are_in_the_list(case, tmp_path):
    out = case.train(tmp_path / "run", steps=2, **SETTINGS["mezo"])
    changed = SETTINGS["mezo"] | {"weight_decay": 0.5, "lora_plus_ratio": 2, "lr": 0.1}
    case.train(out, steps=5, resume=True, **changed)
    assert [e.weight_decay for e in read_estimates(out).steps] == [0, 0, 0.5, 0.5, 0.5]
    assert_same(replayed(case, out, 5), adapter_of(out))


def test_a_list_that_lacks_a_saved_step_is_said(case, tmp_path):
    out = case.train(tmp_path / "run", steps=3, **SETTINGS["mezo"])
    text = (out / FILE).read_text()
    (out / FILE).write_text("".join(text.splitlines(keepends=True)[:-1]))
    message = error_of("train", **case.options(out, steps=5, resume=True, **SETTINGS["mezo"]))
    assert "estimates.jsonl lacks step 3 of the saved state" in message


def test_it_keeps_neither_checkpoints_nor_gradients_nor_states(case, tmp_path):
    out = case.train(tmp_path / "run", steps=3, **SETTINGS["mezo"])
    phases = [p for p in records(out, "phase") if p["step"] == 2]
    names = [p["phase"] for p in phases if p["phase"] not in ("save", "evaluate")]
    assert names == ["embed", "forward", "forward", "forward", "head", *3 * ["optimizer"]]
    assert all(p["ledger"]["gradients"] == p["ledger"]["optimizer"] == 0 for p in phases)
    # The hidden states of both signs, and the one that is written.
    width = json.loads((case.bundle / "config.json").read_text())["hidden_size"]
    state = SEQ_LENS[0] * width * 4
    assert {p["ledger"]["checkpoints"] for p in phases} == {3 * state}
    assert "checkpoints" not in records(out, "run")[0]
    assert not (out / "checkpoints.tmp").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"optimizer": "adamw"}, "changes the adapter itself, as --optimizer sgd would, not adamw"),
        ({"momentum": 0.5}, "keeps no momentum"),
        ({"max_grad_norm": 1}, "--max-grad-norm is an option of --method exact"),
        ({"clipping": "twice"}, "--clipping is an option of --method exact"),
        ({"checkpoints": "spill"}, "--checkpoints is an option of --method exact"),
        ({"zo_eps": 0}, "expected 1e-06 to 1"),
    ],
    ids=str,
)
def test_what_it_does_not_read_is_refused(case, tmp_path, options, what):
    given = case.options(tmp_path / "run", method="mezo", **options)
    assert what in error_of("train", code=2, **given)


def test_without_sparsity_it_is_mezo_bit_by_bit(case, tmp_path):
    dense = case.train(tmp_path / "mezo", steps=STEPS, **SETTINGS["mezo"])
    settings = SETTINGS["mezo"] | {"method": "sparse-mezo", "sparsity": 0}
    assert_same(adapter_of(case.train(tmp_path / "s", steps=STEPS, **settings)), adapter_of(dense))


def test_large_values_keep_their_bits_and_small_ones_move(case, tmp_path):
    out = case.train(tmp_path / "run", steps=1, **SETTINGS["sparse"])
    start, now = replayed(case, out, 0), adapter_of(out)
    for name, before in start.items():
        moved = before != now[name]
        size = np.abs(before)
        assert moved.sum() == pytest.approx(np.ceil(0.3 * moved.size), abs=2), name
        assert size[moved].max() <= size[~moved].min(), name


def test_tensors_that_begin_as_zeros_are_trained_as_a_whole(case, tmp_path):
    """B of a fresh adapter: its limit would be zero, and what moved once would never move again."""
    settings = SETTINGS["sparse"] | {"adapter": None}
    out = case.train(tmp_path / "run", steps=3, **settings)
    before = adapter_of(case.train(tmp_path / "2", steps=2, **settings))
    for name, values in adapter_of(out).items():
        share = (values != before[name]).mean()
        assert share > 0.95 if ".lora_B." in name else 0.2 < share < 0.4, name
    assert_same(replayed(case, out, 3, case.bundle / "adapter.ptd"), adapter_of(out))


def test_another_sparsity_is_another_run(case, tmp_path):
    out = case.train(tmp_path / "run", steps=1, **SETTINGS["sparse"])
    options = case.options(out, steps=2, resume=True, **SETTINGS["sparse"] | {"sparsity": 0.5})
    assert "with sparsity 0.7, not 0.5. Resume with the same --sparsity" in error_of(
        "train", **options
    )


def test_one_query_is_mezo_of_b(case, tmp_path):
    """Bit by bit: its slope updates B as mezo's own would, and A stays."""
    settings = SETTINGS["mobizo"] | {"queries": 1, "zo_eps": 2e-3}
    out = case.train(tmp_path / "run", steps=1, **settings)
    [estimate] = read_estimates(out).steps
    start = replayed(case, out, 0)
    as_mezo = replay(replace(read_estimates(out), b_alone=False), start, 3, 1)
    for name, values in adapter_of(out).items():
        wanted = as_mezo if ".lora_B." in name else start
        assert values.tobytes() == wanted[name].tobytes(), name
    # Its losses are mezo's where A has no say: with a z of A that is zero.
    exact = build_exact_model(Bundle.open(case.bundle), case.adapter)
    gradients = step_gradients(exact, read_rows(case.data), records(out, "step")[0]["samples"])
    where = places(gradients.tensors)
    projection = sum(
        float((g * direction(0, where[name], 1, g)).sum())
        for name, g in gradients.tensors.items()
        if where[name].is_b
    )
    assert estimate.slopes[0] == pytest.approx(projection, rel=0.05)


def test_queries_are_estimates_of_their_own(case, tmp_path):
    """Each row's loss in a step of several queries is that of a step of its own, to the bit."""
    several = case.train(tmp_path / "3", steps=1, queries=3, **SETTINGS["mobizo"])
    alone = case.train(tmp_path / "1", steps=1, queries=1, **SETTINGS["mobizo"])
    [first], [only] = read_estimates(several).steps, read_estimates(alone).steps
    assert first.slopes[0] == only.slopes[0] and len(set(first.slopes)) == 3


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("model", [("llama", True, "mesp"), ("qwen2", False, "mebp")], ids=str)
def test_rows_side_by_side_have_the_losses_of_rows_alone(make_case, tmp_path, model, arithmetic):
    """To the bit those of `evaluate` on adapters that are perturbed beforehand."""
    case, settings = make_case(*model), SETTINGS["mobizo"] | {"arithmetic": arithmetic}
    rows = Rows(*(values[:1] for values in astuple(read_rows(case.data))))
    write_rows(tmp_path / "rows.ptd", rows)
    tokens = int((rows.labels >= 0).sum())
    out = tmp_path / "run"
    case.train(out, steps=1, **settings | {"queries": 3, "data": tmp_path / "rows.ptd"})
    forward = [p["ledger"] for p in records(out, "phase") if p["phase"] == "forward"]
    methods = json.loads((case.bundle / "manifest.json").read_text())["methods"]
    planned = methods[f"block_forward_t{SEQ_LENS[0]}"]["arena_bytes"]
    assert max(ledger["arena"] for ledger in forward) == 4 * (-(-planned // 64) * 64)

    def loss_of(adapter):
        specs = [TensorSpec(name, v.shape, torch.float32) for name, v in adapter.items()]
        write_flat_tensor(
            tmp_path / "adapter.ptd", specs, (torch.from_numpy(v) for v in adapter.values())
        )
        files = {"bundle": case.bundle, "data": tmp_path / "rows.ptd"}
        lines = run(
            "evaluate", adapter=tmp_path / "adapter.ptd", arithmetic=arithmetic, **files
        ).stdout.splitlines()
        # The sum is of float32.
        return float(np.float32(json.loads(lines[-1])["loss"] * tokens))

    start = replayed(case, out, 0)
    where, epsilon = places(start), settings["zo_eps"]
    shifts = [
        {
            name: np.float32(epsilon * place.is_b)
            * normals(0, place.stream(1, query), start[name].size).reshape(start[name].shape)
            for name, place in where.items()
        }
        for query in range(3)
    ]
    expected = [
        loss_of({n: v + shift[n] for n, v in start.items()})
        - loss_of({n: v - shift[n] for n, v in start.items()})
        for shift in shifts
    ]
    [estimate] = read_estimates(out).steps
    assert list(estimate.slopes) == [e / tokens / (2 * epsilon) for e in expected]


def test_exact_reads_no_distance(case, tmp_path):
    given = case.options(tmp_path / "run", zo_eps=0.5)
    assert "--zo-eps is an option of --method mezo" in error_of("train", code=2, **given)


def test_a_method_is_not_changed_by_a_resume(case, tmp_path):
    out = case.train(tmp_path / "run", steps=2, **SETTINGS["mezo"])
    message = error_of("train", **case.options(out, steps=3, resume=True, optimizer="sgd"))
    assert "with method mezo, not exact" in message


def test_a_finished_run_stays_as_it_is(case, tmp_path):
    out = case.train(tmp_path / "run", steps=2, **SETTINGS["mezo"])
    before = (out / FILE).read_bytes()
    run("train", **case.options(out, steps=2, resume=True, **SETTINGS["mezo"]))
    assert (out / FILE).read_bytes() == before


def test_a_step_of_many_rows_takes_several_passes(case, tmp_path):
    """All samples 200 times over have the losses of all samples once, in one pass."""
    samples = len(read_rows(case.data).tokens)
    settings = {"method": "mezo", "steps": 1, "lr": 0, "order": "sequential"}
    runs = [
        case.train(tmp_path / str(times), grad_accum=times * samples, **settings)
        for times in (1, 200)
    ]
    limit = 8 << 20
    ledger = [p["ledger"]["checkpoints"] for p in records(runs[1], "phase")]
    assert 0.9 * limit < max(ledger) <= limit
    (once,), (often,) = (records(out, "step") for out in runs)
    assert often["loss"] == pytest.approx(once["loss"], rel=1e-9)
    slopes = [read_estimates(out).steps[0].slopes[0] for out in runs]
    assert slopes[1] == pytest.approx(slopes[0], rel=1e-6)
