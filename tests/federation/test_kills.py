"""Kills and cuts at random, round after round; every adapter is held against what undisturbed
nodes make of the same beginnings, and of what they kept.
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
import pytest
from safetensors.numpy import load_file

import toolkit
from tests.federation import test_scalars
from tests.federation.conftest import Lab
from tests.federation.test_failures import Seen, pids_below
from tests.federation.test_rounds import ADAPTER, same, tensors
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.device.errors import DeviceLost
from toolkit.device.local import LocalDevice
from toolkit.federation import node
from toolkit.federation.aggregation import Reply, Stack
from toolkit.federation.settings import FederationSettings, read_federation

SOAK = "TOOLKIT_SOAK" in os.environ
ROUNDS = 20 if SOAK else 2
NODES = ("a", "twin", "b")
SEED = 100
RATES = {"fedavg": 0.015, "ffa": 0.0155, "scalars": 0.02, "stack": 0.0165}
TRAIN = {"ffa": {"freeze": "a"}, "scalars": test_scalars.TRAIN}
CASES = [("fedavg", "drop"), ("ffa", "keep"), ("scalars", "keep")]
MORE = [("fedavg", "keep"), ("ffa", "drop"), ("scalars", "drop"), ("stack", "drop")]


@dataclass
class Disturbed(Seen):
    """Kills a node's trainer and cuts another's connection in every round, and keeps what came and
    what it came from.
    """

    lab: Lab
    folder: Path
    draw: random.Random
    seconds: float
    kills: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    cut_off: dict[str, float] = field(default_factory=dict)
    cuts: int = 0

    def begins(self, number, rounds, nodes):
        shutil.copytree(self.folder / "out", self.folder / f"before-{number}")
        for name in NODES:
            for part in ("runs", "federations", "adapters"):
                there = self.lab.folder / name / part
                if there.exists():
                    shutil.copytree(there, self.folder / f"before-{number}-{name}/{part}")
        killed, cut = self.draw.sample(NODES, 2)
        moments = [self.draw.uniform(0, self.seconds) for _ in range(2)]
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
        keep_reply(self.folder, "reply", number, report.node)


def keep_reply(folder: Path, kind: str, number: int, name: str) -> None:
    reply = folder / "out/replies" / name
    if reply.exists():  # by scalars there is none
        shutil.copytree(reply, folder / f"{kind}-{number}-{name}")


@pytest.mark.parametrize(("aggregate", "state"), CASES + MORE * SOAK)
def test_no_kill_and_no_cut_makes_a_wrong_adapter(lab, tmp_path, monkeypatch, aggregate, state):
    whole = SOAK or state == "drop"  # else what they kept is checked at the end alone
    steps = 30 if aggregate == "scalars" else 150 if whole else 60  # numpy replays those of scalars
    shown = Disturbed(lab, tmp_path, random.Random(11), {150: 0.5, 60: 0.1, 30: 0.03}[steps])
    exchange = LocalDevice._exchange

    def shaky(self, command, source, timeout):
        if time.monotonic() < shown.cut_off.get(self.spec, 0.0):
            shown.cuts += 1
            raise DeviceLost(self.spec, "cut")
        yield from exchange(self, command, source, timeout)

    monkeypatch.setattr(LocalDevice, "_exchange", shaky)
    monkeypatch.setattr(node, "_RETRY_SECONDS", 0.1)
    train = {**TRAIN.get(aggregate, {}), "lr": RATES[aggregate], "seed": SEED, "save-every": 10}
    options = {"aggregate": aggregate, "state": state, "train": train, "evaluate": "off"}
    options["local_steps"] = steps
    config = lab.config(tmp_path / "lab.yaml", *NODES, at_once=3, **options, rounds=ROUNDS)
    result = toolkit.federate(config, tmp_path / "out", shown=shown)
    for thread in shown.threads:
        thread.join()
    monkeypatch.undo()
    assert len(result.rounds) == ROUNDS
    assert shown.cuts > 0 and sum(len(r["failures"]) for r in result.rounds) > 0
    assert len(shown.kills) >= ROUNDS / 2
    shutil.move(tmp_path / "out", tmp_path / f"before-{ROUNDS + 1}")
    for record in result.rounds:
        names = [each["node"] for each in record["nodes"]]
        assert set(names) | set(record["failures"]) == set(NODES)
        assert all("signal 9" in why for why in record["failures"].values()), record["failures"]
        if whole or record["round"] == ROUNDS:
            check_adapter(lab, tmp_path, record, read_federation(config))
            for each in record["nodes"]:
                check_reply(lab, tmp_path, record["round"], each, options)


def check_reply(lab: Lab, folder: Path, number: int, report, options) -> None:
    """What came in is what the node makes undisturbed of what it had when the round began."""
    name, out = report["node"], folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder / f"before-{number}", out)
    for part in ("runs", "federations", "adapters"):
        kept, there = folder / f"before-{number}-{name}/{part}", lab.folder / name / part
        for path in there.glob("fed-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if kept.exists():
            shutil.copytree(kept, there, dirs_exist_ok=True)
    shown = Seen()
    shown.came = lambda number, report: keep_reply(folder, "alone", number, report.node)
    config = lab.config(folder / "alone.yaml", name, **options, rounds=number)
    alone = toolkit.federate(config, out, resume=True, shown=shown)
    [own] = alone.rounds[-1]["nodes"]
    for key in ("node", "labelled", "loss", "scalars", "first_step", "last_step"):
        assert own[key] == report[key], (number, name, key)
    if report["scalars"] is None:
        assert same(folder / f"alone-{number}-{name}", folder / f"reply-{number}-{name}")


def check_adapter(lab: Lab, folder: Path, record, settings: FederationSettings) -> None:
    """The adapter after a round is what its rule makes of what came in."""
    number, nodes = record["round"], record["nodes"]
    before, after = (adapter_in(folder / f"before-{n}") for n in (number, number + 1))
    found, start = tensors(after), tensors(before)
    if settings.aggregate == "scalars":
        wanted = {key.removeprefix(PEFT_PREFIX): values.copy() for key, values in start.items()}
        test_scalars.applied(wanted, record, settings)
        assert all(found[PEFT_PREFIX + k].tobytes() == v.tobytes() for k, v in wanted.items())
        return
    replies = [(folder / f"reply-{number}-{each['node']}", each) for each in nodes]
    if settings.aggregate == "stack":
        made = Stack(Bundle.open(lab.bundle).adapter.specs(), before)
        for reply, each in replies:
            made.add(Reply(each["node"], reply, each["labelled"]))
        for key, values in made.tensors():
            assert found[PEFT_PREFIX + key].tobytes() == np.ascontiguousarray(values).tobytes()
        return
    own = [load_file(reply / ADAPTER) for reply, _ in replies]
    share = [each["labelled"] for each in nodes]
    for key, values in found.items():
        total = sum(o[key].astype(np.float64) * w for o, w in zip(own, share, strict=True))
        wanted = (total / sum(share)).astype(np.float32)
        if settings.aggregate == "ffa" and ".lora_A." in key:
            wanted = start[key]
        assert values.tobytes() == wanted.tobytes(), (number, key)


def adapter_in(folder: Path) -> Path:
    """Return the adapter of a federation's folder as it was when a round began."""
    return max(path.parent for path in (folder / "rounds").glob(f"*/{ADAPTER}"))
