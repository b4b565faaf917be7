"""Nodes that fail in a round, and federations that are killed."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

import toolkit
from tests.federation.conftest import STEPS, Lab
from tests.federation.test_rounds import same
from tests.support.processes import wait_for
from toolkit.device.errors import DeviceLost
from toolkit.device.local import LocalDevice
from toolkit.errors import ToolkitError
from toolkit.federation import node
from toolkit.federation.orders import NodeFailed
from toolkit.federation.rounds import Federation
from toolkit.federation.settings import read_federation
from toolkit.federation.shown import Shown
from toolkit.federation.tracked import points_of

LONG = {"local_steps": 200, "train": {"save-every": 5}}


class Seen(Shown):
    """Does something when a round begins."""

    def __init__(self, act=lambda number: None):
        self.act = act

    def begins(self, number, rounds, nodes):
        self.act(number)


def pids_below(home: Path) -> list[int]:
    """Trainers of runs on a device of this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if entry.name.isdigit() and words[0].endswith(b"/trainer"):
            found += [int(entry.name)] * any(bytes(home) in word for word in words[1:])
    return found


def kill_when_it_trains(home: Path) -> None:
    """After its tenth step, when it has saved."""

    def steps() -> int:
        return sum(
            path.read_bytes().count(b'"type":"step"') for path in home.glob("runs/*/trace.*")
        )

    before = steps()
    wait_for(lambda: steps() >= before + 10, 60, every=0.005)
    for pid in pids_below(home):
        os.kill(pid, signal.SIGKILL)


def test_a_node_that_dies_is_left_out_of_its_round_alone(lab, tmp_path):
    """With its reason; in the next round it goes on from what it had saved."""
    killers = []

    def act(number):
        if number == 1:
            killers.append(threading.Thread(target=kill_when_it_trains, args=[lab.folder / "b"]))
            killers[0].start()

    config = lab.config(tmp_path / "lab.yaml", "a", "b", evaluate="off", **LONG)
    result = toolkit.federate(config, tmp_path / "out", shown=Seen(act))
    killers[0].join()
    first, second = result.rounds
    assert [node["node"] for node in first["nodes"]] == ["a"]
    assert "signal 9" in first["failures"]["b"]
    [spent] = first["failed"]
    assert spent["node"] == "b" and spent["seconds"] > 0
    assert min(spent["sent_bytes"], spent["received_bytes"]) > 0 and not second["failed"]
    to_nodes = {point.step: point.values["federation/bytes_to_nodes"] for point in points_of(first)}
    assert to_nodes[1] == first["nodes"][0]["sent_bytes"] + spent["sent_bytes"]
    assert [node["node"] for node in second["nodes"]] == ["a", "b"]
    began = second["nodes"][1]["first_step"]
    assert 1 < began < 200 and (began - 1) % 5 == 0  # where it was saved
    assert "signal 9" in (tmp_path / "out/README.md").read_text()


def test_a_node_that_is_away_or_late_is_left_out(lab, tmp_path):
    config = lab.config(tmp_path / "lab.yaml", "a", evaluate="off", round_minutes=0.1, rounds=1)
    text = config.read_text().replace("nodes:\n", "nodes:\n- {device: '127.0.0.1:9', name: away}\n")
    config.write_text(text)
    result = toolkit.federate(config, tmp_path / "out")
    assert [node["node"] for node in result.rounds[0]["nodes"]] == ["a"]
    assert result.rounds[0]["failures"]["away"].startswith("lost: ")
    late = lab.config(
        tmp_path / "late.yaml", "a", evaluate="off", local_steps=100_000, round_minutes=0.02
    )
    with pytest.raises(ToolkitError, match=r"round 1 does not count.*a: late: .* of 100000 steps"):
        toolkit.federate(late, tmp_path / "late")
    assert not pids_below(lab.folder / "a")


def test_a_reason_that_a_node_wrote_is_cut_short(lab, tmp_path):
    class Liars:
        def __init__(self, *_):
            pass

        def size(self):
            return 1

        def play(self, order):
            yield "a", NodeFailed("\x1b[31mno\n" * 10_000, "never")

    shown, told = Shown(), []
    shown.failed = lambda name, why: told.append((name, why))
    settings = read_federation(lab.config(tmp_path / "lab.yaml", rounds=1))
    federation = Federation(settings, tmp_path / "out", shown, resume=False, fleet=Liars)
    with pytest.raises(ToolkitError, match="round 1 does not count") as error:
        federation.run()
    [(name, why)] = told
    assert name == "a" and why == ("?[31mno " * 100)[:500] and why.isprintable()
    assert len(error.value.cause) < 800 and error.value.cause.isprintable()


def test_an_evaluation_that_prints_nothing_ends_with_its_round(lab, tmp_path):
    lab.add("mute")
    [held_out] = (lab.folder / "mute").rglob("validation.ptd")
    held_out.unlink()
    os.mkfifo(held_out)  # a trainer that opens it waits for ever
    config = lab.config(tmp_path / "lab.yaml", "mute", rounds=1, round_minutes=0.04)
    begun = time.monotonic()
    with pytest.raises(ToolkitError, match="late: it was still measuring"):
        toolkit.federate(config, tmp_path / "out", shown=Shown())
    assert time.monotonic() - begun < 30
    assert not pids_below(lab.folder / "mute")


def test_a_node_that_cannot_measure_trains(lab, tmp_path):
    lab.add("blind")
    [held_out] = (lab.folder / "blind").rglob("validation.ptd")
    held_out.write_bytes(b"nothing of ours")
    config = lab.config(tmp_path / "lab.yaml", "a", "blind", rounds=1)
    came = []
    shown = Shown()
    shown.came = lambda number, report: came.append((number, report))
    toolkit.federate(config, tmp_path / "out", shown=shown)
    [report] = [report for number, report in came if number == 1 and report.node == "blind"]
    assert "validation.ptd" in report.held_out_error and report.held_out_loss is None
    assert report.last_step == STEPS and report.labelled > 0
    nodes = json.loads((tmp_path / "out/rounds/0001/round.json").read_text())["nodes"]
    assert [node["held_out_error"] is None for node in nodes] == [True, False]


def test_nodes_that_do_not_fit_are_refused_before_the_first_round(lab, tmp_path):
    Lab(tmp_path, lab.bundle).deploy("c", lab.folder / "data-ships-24")
    marker = tmp_path / "c/bundles/lab/.deployed.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"sha256": "0" * 64}))
    for name, why in (("c", r"lacks the federation's bundle .*lab \(000000000000\)"),
                      ("d", "there is no runtime")):  # fmt: skip
        config = lab.config(tmp_path / f"{name}.yaml", "a", rounds=1)
        text = config.read_text().replace("nodes:\n", f"nodes:\n- {tmp_path}/{name}\n")
        config.write_text(text)
        with pytest.raises(ToolkitError, match=f"node {name}: .*{why}"):
            toolkit.federate(config, tmp_path / f"out-{name}")
        assert not (tmp_path / f"out-{name}").exists()  # mended, the same call begins
    with pytest.raises(ToolkitError, match="the federation has no nodes"):
        toolkit.federate(lab.config(tmp_path / "none.yaml"), tmp_path / "out-none")
    assert not (tmp_path / "out-none").exists()


def killed(seconds: float, config: Path, out: Path) -> bool:
    """Begin or go on with a federation in a process that is killed; whether it was not yet done."""
    context = multiprocessing.get_context("fork")
    resume = (out / "federation.json").exists()
    process = context.Process(
        target=toolkit.federate, args=(config, out), kwargs={"resume": resume}
    )
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_a_killed_federation_goes_on_with_the_same_bits(lab, tmp_path):
    """Killed at random points; nothing is trained or counted twice."""
    options = {"rounds": 4, "local_steps": 20, "train": {"save-every": 3}}
    config = lab.config(tmp_path / "lab.yaml", "a", "b", **options)
    whole = toolkit.federate(config, tmp_path / "whole")
    out, draw = tmp_path / "out", random.Random(4)
    kills = sum(killed(draw.uniform(0.3, 1.5), config, out) for _ in range(6))
    assert kills >= 2
    result = toolkit.federate(config, out, resume=True)
    assert same(out, whole.path) and result.held_out == whole.held_out
    for got, wanted in zip(result.rounds, whole.rounds, strict=True):
        for mine, theirs in zip(got["nodes"], wanted["nodes"], strict=True):
            for key in ("node", "first_step", "last_step", "labelled", "loss"):
                assert mine[key] == theirs[key]


def test_a_connection_that_breaks_in_a_round_is_found_again(lab, tmp_path, monkeypatch):
    """Every command of a node fails with a chance, as over a bad cable; the bits stay."""
    config = lab.config(tmp_path / "lab.yaml", "a")
    whole = toolkit.federate(config, tmp_path / "whole")
    draw, exchange = random.Random(1), LocalDevice._exchange

    def shaky(self, command, source, timeout):
        if draw.random() < 0.025:
            raise DeviceLost(self.spec, "cut")
        yield from exchange(self, command, source, timeout)

    monkeypatch.setattr(node, "_RETRY_SECONDS", 0.05)
    shown = Seen(lambda number: monkeypatch.setattr(LocalDevice, "_exchange", shaky))
    result = toolkit.federate(config, tmp_path / "out", shown=shown)
    monkeypatch.undo()
    assert same(result.path, whole.path)
    assert sum(n["lost"] for r in result.rounds for n in r["nodes"]) > 0
    assert result.rounds[1]["nodes"][0]["last_step"] == 2 * STEPS
