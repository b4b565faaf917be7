"""The trainer against PyTorch: every gradient tensor of a step, every loss of a training."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.oracle.rows import mixed_rows
from tests.support.trainer import read_trace, run_trainer
from toolkit.bundle.bundle import Bundle
from toolkit.data.dataset import write_rows
from toolkit.data.samples import Rows
from toolkit.oracle.gradients import Gradients, compare, step_gradients
from toolkit.oracle.model import adapter_parameters, build_exact_model, build_model
from toolkit.oracle.training import train
from toolkit.oracle.verification import write_perturbed_adapter
from toolkit.settings.training import TrainSettings

MODELS = [
    pytest.param(("llama", True), id="llama3-rope-tied"),
    pytest.param(("llama", False), id="llama3-rope-untied"),
    pytest.param(("qwen2", True), id="qwen2-tied"),
    pytest.param(("qwen2", False), id="qwen2-untied"),
    pytest.param(("smollm3", True), id="smollm3-two-kinds"),
    pytest.param(("granite", False), id="granite-multipliers"),
    pytest.param(("qwen3", True), id="qwen3-norms-of-heads"),
    pytest.param(("olmo2", False), id="olmo2-norms-behind"),
    pytest.param(("phi3", False), id="phi3-fused-long-rope-window"),
    pytest.param(("gemma3_text", True), id="gemma3-windows-gelu"),
]
OTHER_LOWERINGS = [
    ("qwen2", True, "store-h"), ("llama", True, "ms-bp"),
    ("phi3", False, "approx-bp"), ("gemma3_text", True, "approx-bp"),
]  # fmt: skip
"""Approximate gradients are held to the same rule in PyTorch."""
GRADIENT_TOLERANCE = 1e-5
"""float32 (6e-8) through two blocks of some hundred-term sums, against float64."""
LOSS_TOLERANCE = 1e-3


class Case:
    """A bundle, token rows and a perturbed adapter on disk."""

    def __init__(self, bundle: Path, folder: Path, rows: Rows) -> None:
        self.bundle = Bundle.open(bundle)
        self.folder = folder
        self.rows = rows
        self.adapter = folder / "adapter.ptd"
        write_rows(folder / "data.ptd", rows)
        write_perturbed_adapter(self.bundle, self.adapter, seed=5)

    def arguments(self) -> list[str]:
        """The flags all trainer commands share."""
        paths = {"bundle": self.bundle.path, "data": self.folder / "data.ptd"}
        paths["adapter"] = self.adapter
        return [word for name, path in paths.items() for word in (f"--{name}", str(path))]

    def gradients(self, indices: list[int], threads: int = 1) -> Gradients:
        """Run `trainer gradients`."""
        out = self.folder / "gradients.safetensors"
        samples = ",".join(map(str, indices))
        [result] = run_trainer(
            "gradients",
            *self.arguments(),
            *("--samples", samples, "--out", out, "--threads", threads),
        )
        return Gradients(result["loss"], result["tokens"], load_file(out))

    def oracle(self, *, exact: bool = True):
        """Build the oracle's model, in float64 throughout or as `transformers` trains it."""
        return (build_exact_model if exact else build_model)(self.bundle, self.adapter)


@pytest.fixture
def case(request, make_bundle, tmp_path) -> Case:
    family, tied, lowering = request.param
    return Case(make_bundle(family, tied, lowering), tmp_path, mixed_rows(24, 150))


def cases() -> list:
    return [
        pytest.param((*model.values[0], lowering), id=f"{model.id}-{lowering}")
        for model in MODELS
        for lowering in ("mesp", "mebp")
    ] + [pytest.param(case, id="-".join(map(str, case))) for case in OTHER_LOWERINGS]


@pytest.mark.parametrize("case", cases(), indirect=True)
@pytest.mark.parametrize("indices", [[0, 1, 2, 3], [2]], ids=["accumulated", "packed"])
def test_gradients(case, indices):
    actual = case.gradients(indices, threads=2)
    expected = step_gradients(case.oracle(), case.rows, indices)
    errors = compare(actual.tensors, expected.tensors)
    projections = 4 if case.bundle.config.model_type == "phi3" else 7
    assert len(errors) == 2 * projections * 2 == len(actual.tensors)
    assert errors[0].relative < GRADIENT_TOLERANCE, errors[:5]
    assert min(error.norm for error in errors) > 0
    assert actual.loss == pytest.approx(expected.loss, rel=1e-6)
    assert actual.tokens == expected.tokens


TRAININGS = [
    TrainSettings(steps=20, learning_rate=1e-2, grad_accum=2, seed=3),
    TrainSettings(
        steps=20, learning_rate=1e-2, batch_size=2, weight_decay=0.1, max_grad_norm=0.5,
        warmup_steps=4, seed=9,
        schedule="cosine", beta1=0.8, beta2=0.95, eps=1e-6,
    ),
    TrainSettings(
        steps=20, learning_rate=5e-2, optimizer="sgd", momentum=0.9, weight_decay=0.01,
        schedule="linear", order="sequential",
    ),
    TrainSettings(
        steps=20, learning_rate=1e-2, grad_accum=2, seed=3, lora_plus_ratio=4, layers="last:1",
        schedule="linear",
    ),
]  # fmt: skip


NEW_FAMILIES = [
    ("smollm3", True, "mesp"), ("smollm3", True, "mebp"), ("granite", False, "mesp"),
    ("qwen3", False, "mesp"), ("olmo2", True, "mesp"), ("phi3", True, "mesp"),
    ("gemma3_text", True, "mesp"),
]  # fmt: skip


@pytest.mark.parametrize("case", NEW_FAMILIES, indirect=True, ids=lambda m: "-".join(map(str, m)))
def test_twenty_steps_of_adamw(case):
    """With states that wait in a file, those that layers keep beside their inputs included."""
    test_training(case, replace(TRAININGS[0], checkpoints="spill"))


@pytest.mark.parametrize(
    "settings", TRAININGS, ids=["adamw", "adamw-clipped", "sgd", "lora-plus-top"]
)
@pytest.mark.parametrize(
    "case",
    [("llama", True, "mesp"), ("qwen2", False, "mesp"), ("llama", True, "mebp")],
    indirect=True,
    ids=lambda model: "-".join(map(str, model)),
)
def test_training(case, settings):
    settings = replace(settings, threads=1)
    words = [w for flag, value in settings.flags().items() for w in (f"--{flag}", value)]
    run = case.folder / "run"
    run_trainer("train", *case.arguments(), "--out", run, *words)
    actual = read_trace(run, "step")
    model = case.oracle(exact=False)
    before = {name: p.detach().clone() for name, p in adapter_parameters(model).items()}
    expected = list(train(model, case.rows, settings))
    assert [step["samples"] for step in actual] == [step.samples for step in expected]
    assert [step["labelled"] for step in actual] == [step.tokens for step in expected]
    assert [step["lr"] for step in actual] == pytest.approx([step.lr for step in expected])
    errors = [abs(a["loss"] / e.loss - 1) for a, e in zip(actual, expected, strict=True)]
    assert max(errors) < LOSS_TOLERANCE, errors
    if settings.max_grad_norm:
        norms = [step["grad_norm"] for step in actual]
        assert norms == pytest.approx([step.grad_norm for step in expected], rel=1e-2)
    assert max(step.loss for step in expected) / min(step.loss for step in expected) > 1.5
    saved = load_file(run / "adapter_model.safetensors")
    for name, parameter in adapter_parameters(model).items():
        moved = (parameter.detach() - before[name]).norm()
        off = (saved[f"base_model.model.model.{name}"] - parameter.detach()).norm()
        assert off < 0.02 * moved, name


def test_patience_runs_out_in_the_same_step(make_bundle, tmp_path):
    case = Case(make_bundle("llama", True), tmp_path, mixed_rows(24, 150))
    held_out = mixed_rows(24, 150, seed=7)
    write_rows(tmp_path / "held_out.ptd", held_out)
    settings = TrainSettings(
        steps=60, learning_rate=2e-2, eval_every=2, patience=2, keep="best", max_samples=3,
        threads=1,
    )  # fmt: skip
    words = [w for flag, value in settings.flags().items() for w in (f"--{flag}", value)]
    words += ["--eval-data", tmp_path / "held_out.ptd"]
    run = tmp_path / "run"
    run_trainer("train", *case.arguments(), "--out", run, *words)
    expected = list(train(case.oracle(exact=False), case.rows, settings, held_out))
    assert 2 < len(expected) < 60
    assert len(read_trace(run, "step")) == len(expected)
    losses = [step.held_out for step in expected if step.held_out is not None]
    actual = [record["loss"] for record in read_trace(run, "evaluation")]
    assert actual[1:] == pytest.approx(losses, rel=LOSS_TOLERANCE)
    best = 2 * actual.index(min(actual))
    assert [path.name for path in (run / "best").iterdir()] == [f"step-{best}"]


@pytest.mark.parametrize("family", ["qwen2", "olmo2"])
def test_evaluation(make_bundle, tmp_path, family):
    """Also where layers keep something beside their inputs, which an evaluation gives back."""
    case = Case(make_bundle(family, True), tmp_path, mixed_rows(24, 150))
    *_, last = run_trainer("evaluate", *case.arguments(), "--threads", 1)
    expected = step_gradients(case.oracle(), case.rows, range(4))
    assert last["loss"] == pytest.approx(expected.loss, rel=1e-6)
    assert last["perplexity"] == pytest.approx(2.718281828459045**expected.loss, rel=1e-5)
    assert (last["tokens"], last["samples"]) == (expected.tokens, 4)
