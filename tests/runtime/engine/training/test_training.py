"""The engine against PyTorch: gradients, losses, the trained adapter; the same bits each time."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.runtime.cases import SEQ_LENS
from tests.runtime.running import error_of, records, run
from toolkit.bundle.bundle import Bundle
from toolkit.data.dataset import read_rows
from toolkit.oracle.gradients import compare, step_gradients
from toolkit.oracle.model import adapter_parameters, build_model
from toolkit.oracle.training import train
from toolkit.settings.training import TrainSettings

MODELS = [("llama", True, "mesp"), ("qwen2", False, "mesp"), ("qwen2", True, "mebp")]
# fp32 against fp64: 1e-7 a rounding, times the depth of the sums (up to 150 * 64 terms).
GRADIENT = 2e-5
LOSS = 2e-6
# Rounding grows from step to step, and AdamW turns even the smallest gradient into a whole step.
LATER_LOSS = 1e-4


def model_of(case):
    return build_model(Bundle.open(case.bundle), case.adapter, torch.float64)


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("samples", [[0], [2], [0, 1, 2, 3]], ids=str)
def test_gradients_are_those_of_pytorch(make_case, tmp_path, model, samples):
    case = make_case(*model)
    out = tmp_path / "gradients.safetensors"
    result = run(
        "gradients",
        bundle=case.bundle,
        data=case.data,
        adapter=case.adapter,
        samples=",".join(map(str, samples)),
        out=out,
        threads=2,
    )
    expected = step_gradients(model_of(case), read_rows(case.data), samples)
    line = json.loads(result.stdout)
    assert line["tokens"] == expected.tokens
    assert line["loss"] == pytest.approx(expected.loss, rel=LOSS)
    worst = compare(load_file(out), expected.tensors)[0]
    assert worst.relative < GRADIENT, worst


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(
            steps=20,
            learning_rate=0.01,
            grad_accum=2,
            schedule="cosine",
            min_learning_rate=1e-3,
            warmup_steps=3,
            weight_decay=0.1,
        ),
        TrainSettings(
            steps=20, learning_rate=0.01, batch_size=2, max_grad_norm=0.3, schedule="linear", seed=5
        ),
        TrainSettings(
            steps=20,
            learning_rate=0.1,
            optimizer="sgd",
            max_grad_norm=0.5,
            momentum=0.9,
            order="sequential",
        ),
        TrainSettings(
            steps=20,
            learning_rate=0.2,
            optimizer="sgd",
            batch_size=2,
            grad_accum=2,
            weight_decay=0.01,
        ),
        TrainSettings(
            steps=20, learning_rate=1e-3, optimizer="lion", grad_accum=2, weight_decay=0.1
        ),
        TrainSettings(
            steps=20, learning_rate=0.1, optimizer="lomo", max_grad_norm=0.5, clipping="twice"
        ),
        TrainSettings(
            steps=20, learning_rate=0.01, optimizer="adamw-8bit", max_grad_norm=0.5,
            clipping="last-norm",
        ),
        TrainSettings(steps=20, learning_rate=0.05, optimizer="adalomo", rms_floor=0.1),
        TrainSettings(steps=20, learning_rate=1e-3, optimizer="apollo-mini", projection_gap=7),
        TrainSettings(
            steps=20, learning_rate=0.01, optimizer="mlorc", projection_rank=2, layers="last:2"
        ),
    ],
    ids=[
        "adamw", "adamw-clipped", "sgd-momentum-clipped", "sgd", "lion", "lomo-clipped-twice",
        "adamw-8bit-last-norm", "adalomo", "apollo-mini", "mlorc-top",
    ],
)  # fmt: skip
def test_twenty_steps_are_those_of_pytorch(case, tmp_path, settings):
    model = model_of(case)
    expected = list(train(model, read_rows(case.data), settings))
    seq_len = read_rows(case.data).tokens.shape[1]
    out = case.train(tmp_path / "run", **settings.flags() | {"threads": 1})
    steps = records(out, "step")
    assert [step["samples"] for step in steps] == [step.samples for step in expected]
    assert [step["labelled"] for step in steps] == [step.tokens for step in expected]
    assert all(step["tokens"] == len(step["samples"]) * seq_len for step in steps)
    assert [step["lr"] for step in steps] == pytest.approx([s.lr for s in expected], rel=1e-14)
    assert [step["loss"] for step in steps] == pytest.approx(
        [s.loss for s in expected], rel=LATER_LOSS
    )
    norms = [step.grad_norm for step in expected]
    assert [step["grad_norm"] for step in steps] == pytest.approx(norms, rel=1e-3)

    prefix = "base_model.model.model."
    trained = load_file(out / "adapter_model.safetensors")
    assert all(name.startswith(prefix) for name in trained)
    actual = {name.removeprefix(prefix): tensor for name, tensor in trained.items()}
    wanted = {name: p.detach() for name, p in adapter_parameters(model).items()}
    worst = compare(actual, wanted)[0]
    assert worst.relative < 1e-3, worst
    config = json.loads((out / "adapter_config.json").read_text())
    assert config == json.loads((case.bundle / "adapter_config.json").read_text())


def test_clipping_without_all_gradients_has_the_same_bits(case, tmp_path):
    """One block's gradients are alive instead of three; the layers below are of no matter."""
    options = {"steps": 5, "lr": 0.01, "grad_accum": 2, "max_grad_norm": 0.3, "threads": 2}
    for layers in ({}, {"layers": "1-2"}):
        runs, peaks = [], []
        for clipping in ("keep", "twice"):
            out = tmp_path / f"{clipping}{len(layers)}"
            case.train(out, clipping=clipping, **options, **layers)
            norms = [step["grad_norm"] for step in records(out, "step")]
            assert min(norms) > 0.3
            runs.append(((out / "adapter_model.safetensors").read_bytes(), norms))
            peaks.append(max(phase["ledger"]["gradients"] for phase in records(out, "phase")))
        assert runs[0] == runs[1]
        trained = 2 if layers else 3
        assert peaks[0] * 2 == peaks[1] * (trained + 1)  # and one more, which is added to it


def test_clipping_by_the_last_norm_begins_with_the_norm_of_the_first_step(case, tmp_path):
    options = {"lr": 0.1, "optimizer": "sgd", "max_grad_norm": 0.3, "order": "sequential"}
    adapters = []
    for clipping in ("twice", "last-norm"):
        out = case.train(tmp_path / clipping, steps=1, clipping=clipping, **options)
        adapters.append((out / "adapter_model.safetensors").read_bytes())
    assert adapters[0] == adapters[1]


def test_how_to_clip_is_nothing_without_a_norm(case, tmp_path):
    message = error_of("train", **case.options(tmp_path / "run", clipping="twice"), code=2)
    assert "--clipping says how --max-grad-norm is kept to" in message


@pytest.mark.parametrize("model", [("llama", True, "mesp"), ("qwen2", False, "mebp")])
def test_sequences_together_have_the_gradients_of_one_by_one(make_case, tmp_path, model):
    """Rows that are packed, padded and partly ignored, each beside another kind."""
    case = make_case(*model)
    for samples in ("0,1,2,3", "3,1,2,0", "2,1"):
        results = []
        for together in (1, 2):
            out = tmp_path / f"{together}.safetensors"
            files = {"bundle": case.bundle, "data": case.data, "adapter": case.adapter}
            options = {"samples": samples, "batch_size": together, "threads": 2, "out": out}
            line = json.loads(run("gradients", **files, **options).stdout)
            results.append((line, load_file(out)))
        (alone, apart), (both, joined) = results
        assert both["tokens"] == alone["tokens"]
        assert both["loss"] == pytest.approx(alone["loss"], rel=LOSS)
        # Both are within GRADIENT of float64's; they differ in the order of their sums only.
        worst = compare(joined, apart)[0]
        assert worst.relative < 2 * GRADIENT, worst
        assert any(not torch.equal(joined[name], apart[name]) for name in apart)


def test_sequences_together_are_trained_in_the_same_order(case, tmp_path):
    options = {"steps": 6, "lr": 0.05, "eval_data": case.data}
    apart = case.train(tmp_path / "apart", grad_accum=4, **options)
    joined = case.train(tmp_path / "joined", batch_size=2, grad_accum=2, **options)
    runs = [records(out, "step") for out in (apart, joined)]
    assert [s["samples"] for s in runs[0]] == [s["samples"] for s in runs[1]]
    assert case.losses(joined) == pytest.approx(case.losses(apart), rel=LATER_LOSS)
    losses = [[e["loss"] for e in records(out, "evaluation")] for out in (apart, joined)]
    assert losses[1] == pytest.approx(losses[0], rel=LATER_LOSS)


def result_of(out):
    steps = [(s["loss"], s["grad_norm"], s["samples"]) for s in records(out, "step")]
    return steps, (out / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_run_gives_the_same_bits_wherever_checkpoints_are(case, tmp_path, threads):
    settings = {"steps": 4, "grad_accum": 3, "lr": 0.05, "threads": threads}
    results = [
        result_of(case.train(tmp_path / name, checkpoints=place, **settings))
        for name, place in [("a", "ram"), ("b", "ram"), ("c", "spill"), ("d", "auto")]
    ]
    assert all(result == results[0] for result in results)


def test_a_bundle_serves_several_sequence_lengths(case, tmp_path):
    out = case.train(tmp_path / "run", data=case.other_length, steps=2, lr=0.05)
    assert records(out, "run")[0]["bundle"]["seq_len"] == SEQ_LENS[1]
    model, rows = model_of(case), read_rows(case.other_length)
    expected = [
        step.loss for step in train(model, rows, TrainSettings(steps=2, learning_rate=0.05))
    ]
    assert case.losses(out) == pytest.approx(expected, rel=LATER_LOSS)


def evaluation(case, **options):
    result = run("evaluate", bundle=case.bundle, threads=1, **options)
    *progress, last = map(json.loads, result.stdout.splitlines())
    assert all(line["type"] == "progress" for line in progress)
    assert last["type"] == "evaluation"
    return progress, last


def test_evaluation_is_the_mean_over_labelled_tokens(case):
    progress, last = evaluation(case, data=case.data, adapter=case.adapter)
    expected = step_gradients(model_of(case), read_rows(case.data), range(4))
    assert last["loss"] == pytest.approx(expected.loss, rel=LOSS)
    assert last["tokens"] == expected.tokens
    assert last["samples"] == 4
    assert last["perplexity"] == pytest.approx(float(torch.tensor(last["loss"]).exp()), rel=1e-6)
    assert progress[-1]["samples"] == progress[-1]["total"] == 4
    first = step_gradients(model_of(case), read_rows(case.data), [0])
    _, last = evaluation(case, data=case.data, adapter=case.adapter, max_samples=1)
    assert last["loss"] == pytest.approx(first.loss, rel=LOSS)


def test_without_an_adapter_the_one_of_the_bundle_is_evaluated(case):
    _, plain = evaluation(case, data=case.data)
    _, same = evaluation(case, data=case.data, adapter=case.bundle / "adapter.ptd")
    _, other = evaluation(case, data=case.data, adapter=case.adapter)
    assert plain == same
    assert plain["loss"] != other["loss"]


def test_training_evaluates_before_between_and_after(case, tmp_path):
    out = case.train(
        tmp_path / "run", steps=4, lr=0.05, eval_data=case.other_length, eval_every=2, eps=1e-6
    )
    evaluations = records(out, "evaluation")
    assert [e["step"] for e in evaluations] == [0, 2, 4]
    _, before = evaluation(case, data=case.other_length, adapter=case.adapter)
    assert evaluations[0]["loss"] == before["loss"]
    assert len({e["loss"] for e in evaluations}) == 3
    # Looking must not change what is learned.
    blind = case.train(tmp_path / "blind", steps=4, lr=0.05, eps=1e-6)
    assert result_of(blind) == result_of(out)


def test_a_floor_is_for_what_falls_and_not_above_the_rate(case, tmp_path):
    options = case.options(tmp_path / "run", lr=0.01, min_lr=0.001)
    assert "--min-lr is for --schedule linear or cosine" in error_of("train", code=2, **options)
    options |= {"schedule": "linear", "min_lr": 0.02}
    assert "--min-lr 0.02 is above --lr 0.01" in error_of("train", code=2, **options)
