"""Nodes whose phone is too hot, as a stand-in for `dumpsys` says: they wait, or fail as hot."""

import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import toolkit
from tests.federation.test_failures import Seen, pids_below
from tests.federation.test_rounds import same
from tests.support.fake_dumpsys import FakeDumpsys
from tests.support.processes import wait_for
from toolkit.device.errors import DeviceLost
from toolkit.device.heat import Heat
from toolkit.device.local import LocalDevice
from toolkit.device.runs import Run
from toolkit.errors import ToolkitError
from toolkit.federation import cooling, node, turn
from toolkit.federation.tracked import points_of
from toolkit.federation.turn import Turn
from toolkit.trace.units import duration

TRACE, STEP = "trace.jsonl", b'"type":"step"'
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
    config = lab.config(tmp_path / "lab.yaml", "a", **{**OPTIONS, "local_steps": 200})
    whole = toolkit.federate(config, tmp_path / "whole")
    said, training, threads, held, done = [], [], [], [], []
    launch, request_stop = Turn._launch, Run.request_stop

    def launched(self, *given):
        def steps() -> int:
            return (lab.folder / "a" / "runs" / self._run.name / TRACE).read_bytes().count(STEP)

        if self._order.round != 2 or done:
            return launch(self, *given)
        before = steps()
        launch(self, *given)
        wait_for(lambda: steps() > before, 20, every=0.002)
        held.extend(pids_below(lab.folder / "a"))
        for pid in held:  # stands still until it is asked to end
            os.kill(pid, signal.SIGSTOP)
        done.append(steps() - before)
        phone.says(status=2)

    def asked_to_stop(self):
        request_stop(self)
        while held:
            os.kill(held.pop(), signal.SIGCONT)

    def cools_down(number: int) -> None:
        wait_for(lambda: sum("waits to cool" in line for line in said) == number, 60)
        phone.says(celsius=40.0, status=1)  # not yet
        time.sleep(0.6)
        training.append(pids_below(lab.folder / "a"))
        phone.says()

    def begins(number: int) -> None:
        if number == 1:
            phone.says(celsius=42.5)
        threads.append(threading.Thread(target=cools_down, args=[number]))
        threads[-1].start()

    monkeypatch.setattr(Turn, "_launch", launched)
    monkeypatch.setattr(Run, "request_stop", asked_to_stop)
    shown = Seen(begins)
    shown.say = said.append
    result = toolkit.federate(config, tmp_path / "out", shown=shown)
    for thread in threads:
        thread.join()
    assert same(result.path, whole.path)
    for record, alone in zip(result.rounds, whole.rounds, strict=True):
        assert not record["failures"]
        waited = record["nodes"][0]["hot_seconds"]
        assert waited > 0.5 and alone["nodes"][0]["hot_seconds"] == 0
        [point] = points_of(record)
        assert point.values["federation/hot_seconds"] == waited
        assert all("federation/hot_seconds" not in point.values for point in points_of(alone))
    total = duration(sum(record["nodes"][0]["hot_seconds"] for record in result.rounds))
    card = (result.path / "README.md").read_text()
    assert "| too hot for |" in card and f"| {total} |" in card
    assert "too hot" not in (whole.path / "README.md").read_text()
    assert [line for line in said if "waits" in line] == [
        "a waits to cool down: its battery has 42.5 degrees Celsius",
        "a waits to cool down: its thermal status is moderate",
    ]
    assert 0 < done[0] < 200 and training == [[], []]


def test_a_phone_that_became_hot_while_it_measured_does_not_begin_to_train(
    lab, phone, tmp_path, monkeypatch
):
    """An order that only measures is done by then, and waits for nothing."""
    config = lab.config(tmp_path / "lab.yaml", "a", **{**OPTIONS, "evaluate": "auto", "rounds": 1})
    measure, training, said = Turn._evaluate, [], []

    def measured(self, *given):
        measure(self, *given)
        phone.says(celsius=42.5)

    def says(line):
        said.append(line)
        if "waits" in line:
            training.append((pids_below(lab.folder / "a"), list(lab.folder.glob("a/runs/*"))))
            phone.says()

    for run in lab.folder.glob("a/runs/*"):
        shutil.rmtree(run)
    shown = Seen()
    shown.say = says
    with monkeypatch.context() as patched:
        patched.setattr(Turn, "_evaluate", measured)
        patched.setattr(cooling, "_LOOK_SECONDS", 0.0)
        result = toolkit.federate(config, tmp_path / "out", shown=shown)
    assert training == [([], [])] and sum("waits" in line for line in said) == 1
    [report] = result.rounds[0]["nodes"]
    assert report["held_out_loss"] is not None and report["last_step"] == OPTIONS["local_steps"]


@pytest.mark.parametrize("cut", [False, True], ids=["connected", "cut"])
def test_what_was_measured_last_counts_though_the_phone_stays_hot(
    lab, phone, tmp_path, monkeypatch, cut
):
    """Also where the connection is lost before what was sent is removed."""
    options = {**OPTIONS, "evaluate": "auto", "rounds": 1, "local_steps": 5, "round_minutes": 0.2}
    config = lab.config(tmp_path / "lab.yaml", "a", **options)
    measure, remove, said, cuts = Turn._evaluate, turn.remove_sent, [], [cut]

    def measured(self, *given):
        measure(self, *given)
        if self._order.steps == 0:
            phone.says(celsius=45.0)

    def removed(device, path):
        if cuts and cuts.pop():
            raise DeviceLost(device.spec, "cut")
        remove(device, path)

    monkeypatch.setattr(Turn, "_evaluate", measured)
    monkeypatch.setattr(turn, "remove_sent", removed)
    monkeypatch.setattr(cooling, "_LOOK_SECONDS", 0.0)
    shown = Seen()
    shown.say = said.append
    result = toolkit.federate(config, tmp_path / "out", shown=shown)
    assert result.held_out[-1] is not None and not any("waits" in line for line in said)


@pytest.mark.parametrize("begins", ["hot", "cool"])
def test_a_phone_that_stays_hot_is_told_as_hot(lab, phone, tmp_path, begins):
    """Not as late; before its round, or in it."""
    minutes = {"hot": 0.02, "cool": 0.08}[begins]
    options = {**OPTIONS, "rounds": 1, "local_steps": 100_000, "round_minutes": minutes}
    config = lab.config(tmp_path / "lab.yaml", "b", **options)
    phone.says(celsius=43.1 if begins == "hot" else 30)

    def heats() -> None:
        wait_for(lambda: pids_below(lab.folder / "b"), 20)
        phone.says(status=3)

    heating = threading.Thread(target=heats)
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


def test_a_phone_that_cools_down_lets_others_train(lab, tmp_path, monkeypatch):
    """One at a time: a waits until b is done, which could not begin otherwise."""
    options = {**OPTIONS, "rounds": 1, "local_steps": 10, "at_once": 1}
    whole = toolkit.federate(lab.config(tmp_path / "a.yaml", "a", "b", **options), tmp_path / "a")
    config = lab.config(tmp_path / "b.yaml", "a", "b", round_minutes=1, **options)
    done = [*(lab.folder / "b").glob("runs/*/adapter_model.safetensors")]

    def heat(device):
        own = [*(lab.folder / "b").glob("runs/*/adapter_model.safetensors")]
        return Heat(45.0 if device.spec.endswith("/a") and len(own) == len(done) else 28.0)

    monkeypatch.setattr(cooling, "read_heat", heat)
    monkeypatch.setattr(cooling, "_LOOK_SECONDS", 0.1)
    result = toolkit.federate(config, tmp_path / "out")
    a, b = result.rounds[0]["nodes"]
    assert a["hot_seconds"] > 0 and b["hot_seconds"] == 0 and same(result.path, whole.path)


class Cut:
    """Cuts the connections of folders, and what goes on on one of them meanwhile."""

    def __init__(self, home):
        self.home, self.on, self.lost = home, False, 0
        self.followed = threading.Event()  # once a trace is read
        self.held: list[int] = []
        exchange = LocalDevice._exchange

        def shaky(device, command, source, timeout):
            if self.on:
                self.lost += 1
                raise DeviceLost(device.spec, "cut")
            if "trace.jsonl" in command.line:
                self.followed.set()
            yield from exchange(device, command, source, timeout)

        self.exchange = shaky

    def hold_trainer(self) -> None:
        """Have the trainer stand still between two of its steps."""
        wait_for(lambda: pids_below(self.home), 20)
        [run] = self.home.glob("runs/*")
        trace = run / TRACE
        wait_for(lambda: trace.exists() and STEP in trace.read_bytes(), 20)
        self.run, self.held = run, pids_below(self.home)
        for pid in self.held:
            os.kill(pid, signal.SIGSTOP)
        assert self.held

    def let_go(self) -> None:
        for pid in self.held:
            os.kill(pid, signal.SIGCONT)
        self.held = []

    def begin(self) -> None:
        self.on, before = True, self.lost
        wait_for(lambda: self.lost > before)

    def end(self) -> None:
        self.followed.clear()
        self.on = False


@pytest.fixture(scope="module")
def in_peace(lab, tmp_path_factory):
    """A round that nothing happens in, and its configuration."""
    folder = tmp_path_factory.mktemp("peace")
    lab.add("cut")
    options = {**OPTIONS, "local_steps": 150, "rounds": 1, "round_minutes": 1}
    config = lab.config(folder / "lab.yaml", "cut", **options)
    return config, toolkit.federate(config, folder / "out")


@pytest.fixture
def cut_off(lab, phone, in_peace, tmp_path, monkeypatch):
    """Carries out a round while something happens, and holds its bits against one in peace."""

    def carried_out(act):
        config, whole = in_peace
        home = lab.folder / "cut"
        for run in home.glob("runs/*"):
            shutil.rmtree(run)
        cut, said, acts = Cut(home), [], []
        monkeypatch.setattr(LocalDevice, "_exchange", cut.exchange)
        monkeypatch.setattr(node, "_RETRY_SECONDS", 0.05)

        def acted():
            try:
                act(cut, said)
            finally:
                cut.end()
                cut.let_go()

        with ThreadPoolExecutor(1) as pool:
            shown = Seen(lambda number: acts.append(pool.submit(acted)))
            shown.say = said.append
            result = toolkit.federate(config, tmp_path / "out", shown=shown)
            acts[0].result()
        assert same(result.path, whole.path)
        [record] = result.rounds
        assert not record["failures"]
        return record["nodes"][0], [line for line in said if "waits" in line]

    return carried_out


def test_a_trainer_that_a_cut_left_alone_ends_while_the_phone_is_hot(cut_off, phone):
    """And what was too hot before another cut is so until it is cool."""
    training = []

    def act(cut, said):
        cut.hold_trainer()
        cut.begin()
        phone.says(celsius=42.5)
        cut.end()
        wait_for((cut.run / "stop").exists, 20)
        cut.let_go()
        wait_for(lambda: any("waits" in line for line in said), 20)
        phone.says(celsius=40.0)
        cut.begin()
        cut.end()
        wait_for(lambda: sum("waits" in line for line in said) == 2, 20)
        training.append(pids_below(cut.home))
        phone.says()

    report, waits = cut_off(act)
    assert training == [[]]
    assert report["lost"] >= 2 and report["hot_seconds"] > 0
    assert waits == [
        "cut waits to cool down: its battery has 42.5 degrees Celsius",
        "cut waits to cool down: its battery has 40.0 degrees Celsius",
    ]


def test_what_was_trained_without_a_connection_waits_for_no_phone_to_cool(cut_off, phone):
    def act(cut, said):
        cut.hold_trainer()
        cut.begin()
        phone.says(celsius=45.0)
        cut.let_go()
        wait_for(lambda: not pids_below(cut.home), 20)
        cut.end()

    report, waits = cut_off(act)
    assert report["lost"] >= 1 and report["hot_seconds"] == 0 and not waits


def test_a_trainer_that_was_ended_before_a_cut_is_started_again(cut_off, phone):
    """It still saves when the connection is back, and the phone is cool by then."""

    def act(cut, said):
        cut.hold_trainer()
        phone.says(celsius=42.5)
        wait_for((cut.run / "stop").exists, 20)
        cut.begin()
        phone.says()
        cut.end()
        assert cut.followed.wait(20)
        cut.let_go()

    report, waits = cut_off(act)
    assert report["lost"] >= 1 and not waits
