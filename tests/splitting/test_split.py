"""Training whose upper layers are computed here, beside the same training whole on the device."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import toolkit
from tests.cli.test_devices import toolkit as command
from tests.support.bundles import export_tiny, export_with_tokenizer
from toolkit.bundle.bundle import Bundle
from toolkit.data.samples import Rows
from toolkit.device.adb import AdbDevice
from toolkit.errors import ToolkitError
from toolkit.oracle.gradients import step_gradients
from toolkit.oracle.model import build_model
from toolkit.planning.model import open_model
from toolkit.planning.predict import Planner
from toolkit.planning.settings import Machine
from toolkit.settings.optimizers import OPTIMIZERS
from toolkit.settings.training import TrainSettings
from toolkit.splitting.questions import Question, parse_question
from toolkit.splitting.serving import Serving
from toolkit.splitting.upper import UpperLayers

STEPS = 4
SETTINGS = {"learning_rate": 0.02, "threads": 1, "grad_accum": 2, "save_every": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a bundle, and a device that has it with data."""
    folder = tmp_path_factory.mktemp("split")
    bundle = export_with_tokenizer(folder / "bundle")
    file = folder / "notes.jsonl"
    file.write_text("".join(f'{{"text": "note {i} of ships and {i} stars"}}\n' for i in range(40)))
    toolkit.prepare_data([file], bundle=bundle, output=folder / "data")
    with toolkit.open_device(str(folder / "device")) as device:
        device.deploy(bundle, folder / "data")
        yield folder, device


def split(place, name: str, **settings) -> "toolkit.TrainingRun":
    """Begin a run of which the device has one layer of two."""
    folder, device = place
    chosen = {**SETTINGS, "steps": STEPS, "method": "split", "cut": 1, **settings}
    return device.train(name, TrainSettings(**chosen)).with_computer(folder / "bundle")


def pulled(place, run) -> dict[str, np.ndarray]:
    folder = place[0] / f"pulled-{run.name}"
    run.pull(folder)
    return load_file(folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def uninterrupted(place):
    run = split(place, "split").wait()
    adapter = pulled(place, run)
    lines = (place[0] / "pulled-split/trace.jsonl").read_text().splitlines()
    return adapter, [json.loads(line) for line in lines]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_split_training_is_the_whole_one(place, optimizer):
    _, device = place
    # AdamW divides by a gradient's own size, so a rounding counts as the gradient does.
    rates = {"sgd": 0.1, "adamw": 1e-3}
    chosen = {**SETTINGS, "optimizer": optimizer, "learning_rate": rates[optimizer]}
    whole = device.train(f"whole-{optimizer}", TrainSettings(**chosen, steps=STEPS)).wait()
    run = split(place, f"split-{optimizer}", **chosen)
    steps = list(run)
    expected, actual = pulled(place, whole), pulled(place, run)
    assert expected.keys() == actual.keys()
    start = {name: np.zeros_like(value) for name, value in expected.items() if "lora_B" in name}
    for name, value in expected.items():
        change = np.linalg.norm(value - start.get(name, value * 0))
        assert np.linalg.norm(actual[name] - value) < 1e-4 * change, name
    records = [r for r in whole.device_run.history(whole=True) if r["type"] == "step"]
    for step, record in zip(steps, records, strict=True):
        assert step.loss == pytest.approx(record["loss"], rel=1e-5)
        assert step.grad_norm == pytest.approx(record["grad_norm"], rel=1e-4)


def test_bytes_of_a_step_are_those_of_states_and_gradients(place, uninterrupted):
    run = split(place, "counted", steps=1)
    run.wait()
    computer = run.watching.computer
    rows, tokens, width = 2, 32, 64
    manifest = Bundle.open(place[0] / "bundle").config
    width = manifest.hidden_size
    assert computer.down == rows * tokens * width * 4
    assert computer.up == computer.down + rows * tokens * 3 * 4


def test_a_plan_knows_what_the_device_keeps(place, uninterrupted):
    model = open_model(str(place[0] / "bundle"))
    settings = replace(
        model.settings, method="split", cut=1, optimizer="adamw", sequences=2, checkpoints="ram"
    )
    prediction = Planner(model).predict(settings, Machine())
    assert [phase.name for phase in prediction.phases] == [
        "embed",
        "forward",
        "backward",
        "optimizer",
    ]
    whole = Planner(model).predict(replace(settings, method="exact", cut=0), Machine())
    assert prediction.state.parameters * 2 == whole.state.parameters
    for phase in prediction.phases:
        ledgers = [
            r["ledger"] for r in uninterrupted[1] if r.get("phase") == phase.name and "ledger" in r
        ]
        assert ledgers, phase.name
        for category in ("adapters", "optimizer", "gradients", "checkpoints"):
            highest = max(ledger[category] for ledger in ledgers)
            assert highest == phase.memory[category], (phase.name, category)


def test_a_stopped_run_goes_on_with_the_same_bits(place, uninterrupted):
    folder, device = place
    chosen = {**SETTINGS, "steps": STEPS, "method": "split", "cut": 1}
    run = device.train("stopped", TrainSettings(**chosen), until=3)
    assert run.with_computer(folder / "bundle").wait().status == "stopped"
    resumed = device.resume("stopped").with_computer(folder / "bundle").wait()
    assert_same(pulled(place, resumed), uninterrupted[0])


def test_a_killed_run_goes_on_with_the_same_bits(place, uninterrupted, monkeypatch):
    folder, device = place
    run = split(place, "killed", steps=STEPS)
    answer = Serving._answer

    def killing(self, connection, path, upper, question):
        if question.step == STEPS and question.rows is not None:  # two behind the save
            os.kill(trainer_of(run), signal.SIGKILL)
        return answer(self, connection, path, upper, question)

    with monkeypatch.context() as patched, pytest.raises(ToolkitError):
        patched.setattr(Serving, "_answer", killing)
        run.wait()
    resumed = device.resume("killed").with_computer(folder / "bundle").wait()
    assert_same(pulled(place, resumed), uninterrupted[0])


def test_a_run_waits_for_its_computer(place, uninterrupted):
    folder, device = place
    chosen = {**SETTINGS, "steps": STEPS, "method": "split", "cut": 1}
    run = device.train("alone", TrainSettings(**chosen))
    ask = folder / "device/runs/alone/split/ask"
    deadline = time.monotonic() + 30
    while not ask.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    question = parse_question(ask.read_bytes())
    assert question.step == 1 and question.rows.labels.shape == (2, 32)
    assert not question.rows.tokens.any()
    assert run.status == "running"
    attached = device.run("alone").with_computer(folder / "bundle").wait()
    assert_same(pulled(place, attached), uninterrupted[0])


@pytest.fixture
def left_at_two(place, monkeypatch):
    """Begin a run, and leave it with the third step computed that the trainer waits for."""

    def leave(name: str, **settings) -> "toolkit.TrainingRun":
        run = split(place, name, **settings)
        answer = Serving._answer

        def held(self, connection, run_name, path, question):
            if question.step == 3:
                self._ended.wait(60)
            return answer(self, connection, run_name, path, question)

        with monkeypatch.context() as patched:
            patched.setattr(Serving, "_answer", held)
            records = iter(run.watching)
            while not ((record := next(records)) and record.get("step") == 2):
                pass
            records.close()
        assert run.status == "running"
        return run

    return leave


def test_another_command_goes_on_in_the_middle(place, uninterrupted, left_at_two):
    folder, device = place
    left_at_two("left")
    attached = device.run("left").with_computer(folder / "bundle").wait()
    assert_same(pulled(place, attached), uninterrupted[0])


def test_who_knows_nothing_of_a_step_leaves_the_run_alone(place, left_at_two, monkeypatch):
    folder, device = place
    monkeypatch.setattr(Serving, "_leave", lambda *_: None)  # as where the command is killed
    run = left_at_two("lost", save_every=0, save_minutes=0)
    try:
        with pytest.raises(ToolkitError, match="what a computer knew of its upper layers is gone"):
            device.run("lost").with_computer(folder / "bundle").wait()
        assert run.status == "running"
    finally:
        os.kill(trainer_of(run), signal.SIGKILL)


def test_the_command_computes_its_part_or_is_refused(place, uninterrupted):
    folder, device = place
    where, method = ("--device", str(folder / "device")), ("--method", "split")
    start = ("train", *where, "--steps", "2", "--threads", "1", *method, "--out", "typed")
    assert "needs --computer-bundle" in command(*start, code=2)
    bundle = ("--computer-bundle", str(folder / "bundle"))
    events = command(*start, *bundle, "--json").splitlines()
    assert [json.loads(line)["type"] for line in events].count("step") == 2
    waiting = device.train("typed-2", TrainSettings(**SETTINGS, steps=STEPS, method="split"))
    message = command("train", *where, "--attach", "typed-2", code=1)
    assert "run typed-2 waits for the layers above its cut" in message
    waiting.with_computer(folder / "bundle").wait()
    assert_same(pulled(place, waiting), uninterrupted[0])


def test_another_bundle_is_refused(place, tmp_path):
    _, device = place
    other = export_with_tokenizer(tmp_path / "other", context=128)
    run = device.train("other", TrainSettings(**SETTINGS, steps=1, method="split")).with_computer(
        other
    )
    with pytest.raises(ToolkitError, match="is not the bundle that run 'other' was started with"):
        run.wait()
    os.kill(trainer_of(run), signal.SIGKILL)


def test_what_the_device_cannot_do_is_refused(place):
    with pytest.raises(ToolkitError, match="evaluates nothing"):
        TrainSettings(steps=1, method="split", eval_every=1)
    run = split(place, "high", steps=1, cut=2)
    with pytest.raises(ToolkitError, match="leaves no layer above it: the model has 2"):
        run.wait()


@pytest.mark.parametrize("family", ["gemma3_text", "granite", "smollm3"])
def test_upper_layers_have_the_gradients_of_the_whole_model(tmp_path, family):
    cut = 2
    bundle = Bundle.open(export_tiny(tmp_path / "bundle", family, layers=4))
    tokens = 24
    random = np.random.default_rng(0)
    ids = random.integers(0, bundle.config.vocab_size, (2, tokens)).astype(np.int32)
    start = np.repeat([[0] * 10 + [10] * 14], 2, 0).astype(np.int32)
    positions = np.arange(tokens, dtype=np.int32)[None] - start
    rows = Rows(ids, np.roll(ids, -1, 1), positions, start)
    settings = TrainSettings(method="split", cut=cut, learning_rate=0.1).effective()

    model = build_model(bundle)
    hidden: list[torch.Tensor] = []
    gradients: list[torch.Tensor] = []

    def keep(_module, _arguments, output):
        hidden.append(output.detach()[0])
        output.register_hook(lambda gradient: gradients.append(gradient[0]))

    model.get_base_model().model.layers[cut - 1].register_forward_hook(keep)
    expected = step_gradients(model, rows, [0, 1])
    upper = UpperLayers(bundle, settings, None)
    question = Question(
        1, 1, 1, 0.1, expected.tokens, rows, torch.stack(hidden).numpy().astype(np.float32)
    )
    loss, squares, gradient = upper.answer(question)
    assert loss / expected.tokens == pytest.approx(expected.loss, rel=1e-6)
    theirs = torch.stack(gradients).numpy()
    assert np.linalg.norm(gradient - theirs) < 1e-5 * np.linalg.norm(theirs)
    above = {n: g for n, g in expected.tensors.items() if int(n.split(".")[1]) >= cut}
    assert squares == pytest.approx(sum(float((g**2).sum()) for g in above.values()), rel=1e-4)
    assert set(upper.named()) == set(above)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_saved_state_gives_the_same_bits(place, optimizer):
    """Of every optimizer: some remember more than the parameters' type holds."""
    bundle = Bundle.open(place[0] / "bundle")
    settings = TrainSettings(
        method="split", cut=1, optimizer=optimizer, learning_rate=0.01, threads=1
    ).effective()
    random = np.random.default_rng(0)
    tokens, width = 8, bundle.config.hidden_size

    def question(step: int) -> Question:
        ids = random.integers(0, bundle.config.vocab_size, (1, tokens)).astype(np.int32)
        places = np.arange(tokens, dtype=np.int32)[None]
        rows = Rows(ids, np.roll(ids, -1, 1), places, places * 0)
        hidden = random.standard_normal((1, tokens, width)).astype(np.float32)
        return Question(1, step, step, 0.01, tokens, rows, hidden)

    questions = [question(step) for step in range(1, 6)]
    whole, resumed = (UpperLayers(bundle, settings, None) for _ in range(2))
    for asked in questions[:3]:
        whole.answer(asked)
    state, step = whole.states()[-1]
    assert step == 3
    resumed.load(state)
    for asked in questions[3:]:
        theirs, ours = whole.answer(asked), resumed.answer(asked)
        assert theirs[:2] == ours[:2] and (theirs[2] == ours[2]).all()
    whole.states(), resumed.states()  # makes the last update
    for name, value in whole.named().items():
        assert torch.equal(value, resumed.named()[name]), name


def test_a_phone_that_takes_one_connection_is_refused_before_the_start(place, uninterrupted):
    folder, device = place
    assert AdbDevice("R58M123ABC").exclusive and not AdbDevice("10.0.0.2:5555").exclusive
    assert not device.connection.exclusive
    device.connection.exclusive = True
    try:
        for name in ("single", "resumed"):
            with pytest.raises(ToolkitError, match="takes one connection at a time") as error:
                if name == "single":
                    split(place, name, steps=1)
                else:
                    device.resume("split")
            assert "adb start-server" in error.value.remedy
        assert not (folder / "device/runs/single").exists()
    finally:
        device.connection.exclusive = False


def test_a_damaged_question_is_none():
    whole = b"5 1 step 1 0.1 3 1 2 4\n" + bytes(2 * (3 + 4) * 4)
    assert parse_question(whole).hidden.shape == (1, 2, 4)
    for damaged in (b"", whole[:-1], whole + b"x", b"5 1 step 1 0.1 3 1 2\n", whole[2:]):
        assert parse_question(damaged) is None


def test_nothing_is_served_without_a_bundle(tmp_path):
    with pytest.raises(ToolkitError):
        Serving(tmp_path)


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


def trainer_of(run) -> int:
    """Return the process of a run's trainer on this machine."""
    return int((Path(run.device_run.path) / "trainer.pid").read_text())
