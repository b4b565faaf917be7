"""`flwr run` with the ServerApp and the ClientApp: Flower's deployment and simulation engines."""

import json
import os
import random
import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

import toolkit
from tests.federation.flower.deployment import Deployment
from tests.federation.test_rounds import same, tensors
from tests.support.processes import wait_for
from toolkit.federation.flower.project import write_project
from toolkit.federation.settings import read_federation

TAKEN = "SuperNode ID: "  # of a SuperNode, once its SuperLink has taken it
soak = pytest.mark.skipif("TOOLKIT_SOAK" not in os.environ, reason="minutes; `make soak`")


@pytest.fixture
def deployment(tmp_path, request):
    """Flower's processes; with a number of simulated nodes as its parameter."""
    made = Deployment(tmp_path / "flower", simulated=getattr(request, "param", 0))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def reference(lab, tmp_path_factory):
    """The federation that all must come to, of the nodes a and b without Flower."""
    folder = tmp_path_factory.mktemp("reference")
    return toolkit.federate(config(lab, folder), folder / "out")


def config(lab, folder):
    return lab.config(folder / "lab.yaml", "a", "b", min_nodes=2, train={"lr": 0.012})


def app_of(lab, folder: Path, tensorboard: Path | None = None) -> Path:
    settings = read_federation(config(lab, folder))
    write_project(settings, folder / "out", folder / "app", tensorboard)
    return folder / "app"


def check(out: Path, reference, again: int = 0) -> None:
    """A federation came to what another did, with as many orders sent again in its first round."""
    assert same(out, reference.path)
    size = (out / "adapter_model.safetensors").stat().st_size
    for number, wanted in enumerate(reference.rounds, 1):
        record = json.loads((out / f"rounds/{number:04d}/round.json").read_text())
        assert not record["failures"]
        assert (record["loss"], record["held_out_loss"]) == (
            wanted["loss"],
            wanted["held_out_loss"],
        )
        assert [node["node"] for node in record["nodes"]] == ["a", "b"]
        for node in record["nodes"]:
            assert all(size / 2 < node[way] for way in ("down_bytes", "up_bytes"))
        for way, more in (("down_bytes", again * (number == 1)), ("up_bytes", 0)):
            sent = sum(node[way] for node in record["nodes"])
            assert 1 + more < sent / size < 3 + 1.5 * more
    assert "| a | 2 |" in (out / "README.md").read_text()


def test_two_supernodes_over_tls_come_to_the_bits_of_a_lab(lab, reference, deployment, tmp_path):
    from tests.federation.test_tracked import read

    app = app_of(lab, tmp_path, tmp_path / "board")
    deployment.start_superlink()
    for name in ("b", "a"):
        deployment.make_key(name)
        deployment.start_supernode(name, lab.folder / name)
    said = deployment.flwr("run", app, "it", "--stream", "-c", 'nodes=""')
    assert (tmp_path / "out/federation.json").exists(), said
    check(tmp_path / "out", reference)
    assert "adapter: " in said and "Traceback" not in said
    board = read(tmp_path / "board/out")
    assert board["federation/nodes"] == [(1, 2.0), (2, 2.0)]
    losses = [record["loss"] for record in reference.rounds]
    assert [value for _, value in board["train/loss"]] == pytest.approx(losses, rel=1e-6)
    assert [step for step, _ in board["federation/down_bytes"]] == [1, 2]


@pytest.mark.parametrize("deployment", [2], indirect=True)
def test_a_simulation_comes_to_the_bits_of_a_lab(lab, reference, deployment, tmp_path):
    app = app_of(lab, tmp_path)
    deployment.start_superlink()
    resources = "num-supernodes=2 client-resources-num-cpus=1"
    said = deployment.flwr("run", app, "it", "--stream", "--federation-config", resources)
    assert (tmp_path / "out/federation.json").exists(), said
    check(tmp_path / "out", reference)


@soak
@pytest.mark.parametrize("deployment", [100], indirect=True)
def test_a_simulation_of_100_nodes_comes_to_what_a_lab_of_two_does(lab, deployment, tmp_path):
    """Half of them have the data of one, half that of the other: the mean is the same."""
    names = [f"n{number:03d}" for number in range(100)]
    for number, name in enumerate(names):
        lab.add(name, topic=("ships", "trees")[number % 2])
    options = {"local_steps": 2, "evaluate": "off", "train": {"lr": 0.019}}
    two = lab.config(tmp_path / "two.yaml", "a", "b", **options)
    wanted = toolkit.federate(two, tmp_path / "wanted")
    path = lab.config(tmp_path / "lab.yaml", *names, min_nodes=100, **options)
    write_project(read_federation(path), tmp_path / "out", tmp_path / "app")
    deployment.start_superlink()
    resources = "num-supernodes=100 client-resources-num-cpus=1"
    words = ("run", tmp_path / "app", "it", "--stream", "--federation-config", resources)
    said = deployment.flwr(*words, "-c", "at-once=0", seconds=1800)
    assert (tmp_path / "out/README.md").exists(), said
    for name, values in tensors(tmp_path / "out").items():  # to the last bit of float32
        np.testing.assert_allclose(values, tensors(wanted.path)[name], rtol=1e-6, atol=1e-9)
    for number in (1, 2):
        record = json.loads((tmp_path / f"out/rounds/{number:04d}/round.json").read_text())
        assert [node["node"] for node in record["nodes"]] == names and not record["failures"]


@soak
def test_supernodes_that_are_killed_in_every_round_lose_nothing(lab, deployment, tmp_path):
    """One at a random time, with all processes below it, and started until the SuperLink takes it:
    for a minute it counts the killed one as connected. A round takes longer than in a lab, so what
    is killed within the time of one there is killed in the round.
    """
    rounds, draw, kills = int(os.environ["TOOLKIT_SOAK"]), random.Random(7), []
    options = {"rounds": rounds, "local_steps": 2000, "evaluate": "off", "min_nodes": 2}
    path = lab.config(tmp_path / "lab.yaml", "a", "b", train={"lr": 0.016}, **options)
    wanted, out = toolkit.federate(path, tmp_path / "wanted"), tmp_path / "out"
    write_project(read_federation(path), out, tmp_path / "app")
    deployment.start_superlink()
    for name in ("a", "b"):
        deployment.make_key(name)
        deployment.start_supernode(name, lab.folder / name)
    deployment.flwr("run", tmp_path / "app", "it", "-c", 'nodes=""')
    for number in range(rounds):
        wait_for(lambda n=number: finished(out) >= n and (out / "replies").exists(), 400)
        time.sleep(draw.uniform(0, min(record["seconds"] for record in wanted.rounds)))
        name = draw.choice("ab")
        process = deployment.processes[f"node-{name}"]
        assert process.poll() is None
        kills.append(finished(out))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        start_until_it_stays(deployment, name, lab.folder / name)
    wait_for((out / "README.md").exists, 400)
    assert kills == list(range(rounds))  # rounds that counted: one in each
    assert same(out, wanted.path)
    for number in range(1, rounds + 1):
        record = json.loads((out / f"rounds/{number:04d}/round.json").read_text())
        assert not record["failures"] and len(record["nodes"]) == 2


@soak
def test_a_message_that_was_lost_is_sent_again(lab, reference, deployment, tmp_path):
    """Marked as taken before its SuperNode takes it, as by a SuperLink whose answer got lost."""
    app, lost = app_of(lab, tmp_path), []
    deployment.start_superlink()
    for name in ("a", "b"):
        deployment.make_key(name)
        deployment.start_supernode(name, lab.folder / name)
    deployment.flwr("run", app, "it", "-c", 'nodes="" round-minutes=30')
    mark = (
        "UPDATE message_ins SET delivered_at = 'lost' WHERE message_id = (SELECT message_id FROM "
        "message_ins WHERE message_type = 'train' AND delivered_at = '' LIMIT 1) "
        "AND delivered_at = '' RETURNING dst_node_id"
    )

    def takes() -> bool:
        with suppress(sqlite3.OperationalError), closing(connected()) as database:
            lost.extend(database.execute(mark).fetchall())
            database.commit()
        return bool(lost)

    def connected() -> sqlite3.Connection:
        return sqlite3.connect(deployment.folder / "state.db", timeout=5)

    wait_for(takes, 240)
    begun = time.monotonic()
    wait_for((tmp_path / "out/README.md").exists, 900)  # a lost question is asked after a minute
    assert len(lost) == 1 and time.monotonic() - begun > 60
    check(tmp_path / "out", reference, again=1)


def start_until_it_stays(deployment, name: str, device: Path) -> None:
    before, end = deployment.log(f"node-{name}").count(TAKEN), time.monotonic() + 300
    while deployment.log(f"node-{name}").count(TAKEN) == before:
        assert time.monotonic() < end, deployment.log(f"node-{name}")[-2000:]
        if deployment.processes[f"node-{name}"].poll() is not None:
            time.sleep(3)
            deployment.start_supernode(name, device)
        time.sleep(0.5)


def finished(out: Path) -> int:
    """Return how many rounds count; -1 before the federation has begun."""
    try:
        return json.loads((out / "federation.json").read_text())["round"]
    except (OSError, ValueError):
        return -1


@soak
def test_a_superlink_that_is_killed_loses_nothing(lab, reference, deployment, tmp_path):
    """At random times; SuperNodes stay, and another run goes on."""
    app, draw, kills = app_of(lab, tmp_path), random.Random(6), 0
    deployment.start_superlink()
    for name in ("a", "b"):
        deployment.make_key(name)
        deployment.start_supernode(name, lab.folder / name)
    for _ in range(int(os.environ["TOOLKIT_SOAK"])):
        begun = (tmp_path / "out/federation.json").exists()
        deployment.flwr("run", app, "it", "-c", f'nodes="" resume={str(begun).lower()}')
        wait_for((tmp_path / "out/federation.json").exists, 240)
        time.sleep(draw.uniform(0, 30))
        kills += not (tmp_path / "out/README.md").exists()
        os.killpg(deployment.processes["superlink"].pid, signal.SIGKILL)
        deployment.processes["superlink"].wait()
        deployment.start_superlink()
        if (tmp_path / "out/README.md").exists():
            break
    assert kills > 0
    said = deployment.flwr("run", app, "it", "--stream", "-c", 'nodes="" resume=true')
    assert (tmp_path / "out/README.md").exists(), said
    check(tmp_path / "out", reference)
