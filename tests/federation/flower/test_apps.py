"""`flwr run` with the ServerApp and the ClientApp: Flower's deployment and simulation engines."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

import toolkit
from tests.federation.flower.deployment import Deployment
from tests.federation.test_rounds import same
from tests.support.processes import wait_for
from toolkit.federation.flower.project import write_project
from toolkit.federation.settings import read_federation


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


def app_of(lab, folder: Path) -> Path:
    write_project(read_federation(config(lab, folder)), folder / "out", folder / "app")
    return folder / "app"


def check(out: Path, reference) -> None:
    assert same(out, reference.path)
    for number, wanted in enumerate(reference.rounds, 1):
        record = json.loads((out / f"rounds/{number:04d}/round.json").read_text())
        assert not record["failures"]
        assert (record["loss"], record["held_out_loss"]) == (
            wanted["loss"],
            wanted["held_out_loss"],
        )
        assert [node["node"] for node in record["nodes"]] == ["a", "b"]
    assert "| a | 2 |" in (out / "README.md").read_text()


def test_two_supernodes_over_tls_come_to_the_bits_of_a_lab(lab, reference, deployment, tmp_path):
    app = app_of(lab, tmp_path)
    deployment.start_superlink()
    for name in ("b", "a"):
        deployment.make_key(name)
        deployment.start_supernode(name, lab.folder / name)
    said = deployment.flwr("run", app, "it", "--stream", "-c", 'nodes=""')
    assert (tmp_path / "out/federation.json").exists(), said
    check(tmp_path / "out", reference)
    assert "adapter: " in said and "Traceback" not in said


@pytest.mark.parametrize("deployment", [2], indirect=True)
def test_a_simulation_comes_to_the_bits_of_a_lab(lab, reference, deployment, tmp_path):
    app = app_of(lab, tmp_path)
    deployment.start_superlink()
    resources = "num-supernodes=2 client-resources-num-cpus=1"
    said = deployment.flwr("run", app, "it", "--stream", "--federation-config", resources)
    assert (tmp_path / "out/federation.json").exists(), said
    check(tmp_path / "out", reference)


@pytest.mark.skipif("TOOLKIT_SOAK" not in os.environ, reason="minutes; `make soak`")
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
