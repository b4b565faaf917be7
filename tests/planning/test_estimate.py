"""How long a run will take: by the plan, for a device that was measured."""

import json
from dataclasses import replace

import pytest

import toolkit
from tests.planning.conftest import LENGTHS, VOCABULARY
from tests.support.bundles import export_tiny
from toolkit.planning import measured
from toolkit.planning.model import open_model
from toolkit.planning.predict import Planner
from toolkit.planning.scratch import Kernels
from toolkit.planning.settings import Machine
from toolkit.planning.speed import PHASES, Rate, Speed
from toolkit.settings.training import TrainSettings

SPEED = Speed({name: Rate(2e9 + n, 3e8) for n, name in enumerate(PHASES)})
MACHINE = Machine("phone", Kernels("neon", 3), 4_000_000, None, SPEED, True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Return one small bundle: what a plan says of others is tested beside."""
    folder = tmp_path_factory.mktemp("estimated") / "bundle"
    return export_tiny(folder, "llama", layers=1, seq_lens=LENGTHS)


@pytest.fixture
def device(bundle, tmp_path, monkeypatch):
    """Return this machine's device with a bundle and data of the shorter length."""
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    data = toolkit.prepare_data(
        [], random=10, bundle=bundle, seq_len=LENGTHS[0], output=tmp_path / "data"
    )
    assert data.report["vocab_size"] == VOCABULARY
    with toolkit.open_device("local") as device:
        device.deploy(bundle, data)
        yield device


def test_it_is_what_the_plan_says_of_the_same_settings(bundle, device):
    settings = TrainSettings(epochs=2, optimizer="sgd", batch_size=2, grad_accum=2)
    assert device.estimate(settings) is None
    measured.remember(device.connection, 0, MACHINE)
    model = open_model(str(bundle))
    planned = replace(
        model.settings, seq_len=LENGTHS[0], optimizer="sgd", batch_size=2, sequences=4
    )
    step = Planner(model).predict(planned, MACHINE).seconds
    assert device.estimate(settings) == pytest.approx(5 * step, rel=1e-9)  # 20 sequences, 4 a step


def test_what_a_plan_does_not_know_is_not_told(device):
    measured.remember(device.connection, 0, MACHINE)
    assert device.estimate(TrainSettings(steps=2)) > 0
    assert device.estimate(TrainSettings(steps=2, threads=2)) is None
    assert device.estimate(TrainSettings(steps=2, layers="last:1")) is None
    assert device.estimate(TrainSettings(steps=2), bundle="nothing") is None
    assert device.estimate(TrainSettings()) is None


def test_what_was_measured_comes_back_whole(device):
    assert measured.recall(device.connection, 2, "float32") is None
    measured.remember(device.connection, 2, MACHINE)
    found = measured.recall(device.connection, 2, "float32")
    assert measured.recall(device.connection, 2, "fixed16") is None
    assert found.available > 1e8 and replace(found, available=None) == MACHINE
    [path] = (measured.cache_root() / "machines").iterdir()
    for content in ("", "[]", json.dumps({**json.loads(path.read_text()), "rates": {}})):
        path.write_text(content)
        assert measured.recall(device.connection, 2, "float32") is None
