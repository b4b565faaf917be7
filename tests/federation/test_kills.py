"""Kills and cuts at random, round after round; every adapter is held against what undisturbed
nodes make of the same beginnings.
"""

import os
import random
import shutil
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

import toolkit
from tests.federation.conftest import Lab
from tests.federation.test_failures import Seen, pids_below
from tests.federation.test_rounds import ADAPTER, same, tensors
from toolkit.device.errors import DeviceLost
from toolkit.device.local import LocalDevice
from toolkit.federation import node

ROUNDS = 20 if "TOOLKIT_SOAK" in os.environ else 2
NODES = ("a", "twin", "b")
SEED = 100
OPTIONS = {"local_steps": 150, "state": "drop", "evaluate": "off"}


@dataclass
class Disturbed(Seen):
    """Kills a node's trainer and cuts another's connection in every round, and keeps what came."""

    lab: Lab
    folder: Path
    draw: random.Random
    kills: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    cut_off: dict[str, float] = field(default_factory=dict)
    cuts: int = 0
    weights: dict[tuple[int, str], int] = field(default_factory=dict)

    def begins(self, number, rounds, nodes):
        kept = self.folder / f"before-{number}"
        kept.mkdir()
        for name in (ADAPTER, "adapter_config.json"):
            shutil.copyfile(self.folder / f"out/rounds/{number - 1:04d}" / name, kept / name)
        killed, cut = self.draw.sample(NODES, 2)
        moments = [self.draw.uniform(0, 0.5) for _ in range(2)]
        for act, name, moment in ((self.kill, killed, moments[0]), (self.cut, cut, moments[1])):
            self.threads.append(threading.Thread(target=act, args=[name, moment]))
            self.threads[-1].start()

    def kill(self, name: str, moment: float) -> None:
        """Kill a trainer some time after it appeared, unless it has ended by then."""
        end = time.monotonic() + 20
        while not pids_below(self.lab.folder / name) and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(moment)
        for pid in pids_below(self.lab.folder / name):
            os.kill(pid, signal.SIGKILL)
            self.kills.append(name)

    def cut(self, name: str, moment: float) -> None:
        """Cut a connection for a while."""
        time.sleep(moment)
        self.cut_off[str(self.lab.folder / name)] = time.monotonic() + 0.4

    def came(self, number, report):
        reply = self.folder / f"out/replies/{report.node}"
        shutil.copytree(reply, self.folder / f"reply-{number}-{report.node}")
        self.weights[number, report.node] = report.labelled


def test_no_kill_and_no_cut_makes_a_wrong_adapter(lab, tmp_path, monkeypatch):
    shown = Disturbed(lab, tmp_path, random.Random(11))
    exchange = LocalDevice._exchange

    def shaky(self, command, source, timeout):
        if time.monotonic() < shown.cut_off.get(self.spec, 0.0):
            shown.cuts += 1
            raise DeviceLost(self.spec, "cut")
        yield from exchange(self, command, source, timeout)

    monkeypatch.setattr(LocalDevice, "_exchange", shaky)
    monkeypatch.setattr(node, "_RETRY_SECONDS", 0.1)
    options = {**OPTIONS, "rounds": ROUNDS, "train": {"lr": 0.015, "seed": SEED}}
    config = lab.config(tmp_path / "lab.yaml", *NODES, at_once=3, **options)
    result = toolkit.federate(config, tmp_path / "out", shown=shown)
    for thread in shown.threads:
        thread.join()
    monkeypatch.undo()
    assert len(result.rounds) == ROUNDS
    assert shown.cuts > 0 and sum(len(r["failures"]) for r in result.rounds) > 0
    assert len(shown.kills) >= ROUNDS / 2
    for record in result.rounds:
        assert all("signal 9" in why for why in record["failures"].values()), record["failures"]
        check_round(lab, tmp_path, record, shown.weights)


def check_round(lab: Lab, folder: Path, record, weights) -> None:
    """Every reply is what an undisturbed node makes of the round's beginning; the adapter after the
    round is their mean.
    """
    number, names = record["round"], [each["node"] for each in record["nodes"]]
    assert set(names) | set(record["failures"]) == set(NODES)
    replies = [folder / f"reply-{number}-{name}" for name in names]
    for name, reply in zip(names, replies, strict=True):
        options = {
            **OPTIONS,
            "rounds": 1,
            "train": {"lr": 0.015, "seed": SEED + number - 1},
            "adapter": str(folder / f"before-{number}"),
        }
        alone = folder / f"alone-{number}-{name}"
        toolkit.federate(lab.config(folder / "alone.yaml", name, **options), alone)
        assert same(alone, reply), (number, name)
    after = folder / f"before-{number + 1}"
    after = after if after.exists() else folder / "out"
    own = [load_file(reply / ADAPTER) for reply in replies]
    share = [weights[number, name] for name in names]
    for key, values in tensors(after).items():
        total = sum(o[key].astype(np.float64) * w for o, w in zip(own, share, strict=True))
        assert values.tobytes() == (total / sum(share)).astype(np.float32).tobytes(), (number, key)
