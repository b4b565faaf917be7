"""Nodes whose phone is too hot, as a stand-in for `dumpsys` says: they wait, or fail as hot."""

import json
import threading
import time

import pytest

import toolkit
from tests.federation.test_failures import Seen, pids_below
from tests.federation.test_rounds import same
from tests.support.fake_dumpsys import FakeDumpsys
from tests.support.processes import wait_for
from toolkit.errors import ToolkitError
from toolkit.federation import cooling

OPTIONS = {"evaluate": "off", "local_steps": 60, "train": {"lr": 0.018}}


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """This machine, with a `dumpsys`."""
    made = FakeDumpsys(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin), prepend=":")
    monkeypatch.setattr(cooling, "_LOOK_SECONDS", 0.1)
    return made


def test_a_phone_that_becomes_hot_goes_on_when_it_is_cool(lab, phone, tmp_path, monkeypatch):
    """Before a round and in one; its trainer ends meanwhile, and the bits stay."""
    config = lab.config(tmp_path / "lab.yaml", "a", **OPTIONS)
    whole = toolkit.federate(config, tmp_path / "whole")
    said, training, threads = [], [], []

    def cools_down(number: int) -> None:
        if number == 2:
            wait_for(lambda: pids_below(lab.folder / "a"), 20)
            phone.says(status=2)
        wait_for(lambda: sum("waits to cool" in line for line in said) == number, 20)
        phone.says(celsius=40.0, status=1)  # not yet
        time.sleep(0.6)
        training.append(pids_below(lab.folder / "a"))
        phone.says()

    def begins(number: int) -> None:
        if number == 1:
            phone.says(celsius=42.5)
        threads.append(threading.Thread(target=cools_down, args=[number]))
        threads[-1].start()

    shown = Seen(begins)
    shown.say = said.append
    result = toolkit.federate(config, tmp_path / "out", shown=shown)
    for thread in threads:
        thread.join()
    assert same(result.path, whole.path)
    for record, alone in zip(result.rounds, whole.rounds, strict=True):
        assert not record["failures"]
        assert record["nodes"][0]["hot_seconds"] > 0.5 and alone["nodes"][0]["hot_seconds"] == 0
    assert [line for line in said if "waits" in line] == [
        "a waits to cool down: its battery has 42.5 degrees Celsius",
        "a waits to cool down: its thermal status is moderate",
    ]
    assert training == [[], []]


@pytest.mark.parametrize("begins", ["hot", "cool"])
def test_a_phone_that_stays_hot_is_told_as_hot(lab, phone, tmp_path, begins):
    """Not as late; before its round, or in it."""
    options = {**OPTIONS, "rounds": 1, "local_steps": 100_000, "round_minutes": 0.04}
    config = lab.config(tmp_path / "lab.yaml", "b", **options)
    phone.says(celsius=43.1 if begins == "hot" else 30)
    heating = threading.Timer(1.0, phone.says, kwargs={"status": 3})
    if begins == "cool":
        heating.start()
    with pytest.raises(ToolkitError) as error:
        toolkit.federate(config, tmp_path / "out")
    if begins == "hot":
        why = "b: hot: its battery has 43.1 degrees Celsius; it did not begin"
    else:
        why = "b: hot: its thermal status is severe; "
        assert "of 100000 steps in time" in error.value.cause
    assert why in error.value.cause and "late" not in error.value.cause
    assert not pids_below(lab.folder / "b")
    assert json.loads((tmp_path / "out/federation.json").read_text())["round"] == 0
