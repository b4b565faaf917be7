"""The fleet of a Grid and Flower's own strategies, with the real ClientApp on real trainers."""

import numpy as np
import pytest
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedTrimmedAvg,
)
from safetensors.numpy import load_file

import toolkit
from tests.federation.flower.direct import DirectGrid, carry_out
from tests.federation.test_rounds import same
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.errors import ToolkitError
from toolkit.federation.flower import start
from toolkit.federation.settings import read_federation
from toolkit.federation.shown import Shown

LR = {"lr": 0.013}


def grid_of(lab, *names):
    return DirectGrid({
        7 + number: {"device": f"{lab.folder}/{name}", "name": name}
        for number, name in enumerate(names)
    })  # fmt: skip


def federated(lab, grid, out, *, resume=False, shown=None, tensorboard=None, **options):
    settings = read_federation(lab.config(out.parent / "lab.yaml", train=LR, **options))
    return carry_out(settings, grid, out, shown, resume=resume, tensorboard=tensorboard)


class Killed(Exception):
    pass


def test_a_killed_server_goes_on_from_its_last_round(lab, tmp_path):
    """With other numbers of the same nodes, after it ended when one of two had answered."""
    wanted = toolkit.federate(
        lab.config(tmp_path / "lab.yaml", "a", "b", train=LR), tmp_path / "whole"
    )
    shown = Shown()

    def came(number, report):
        if number == 2:
            raise Killed

    shown.came = came
    with pytest.raises(Killed):
        federated(lab, grid_of(lab, "b", "a"), tmp_path / "out", shown=shown)
    result = federated(lab, grid_of(lab, "a", "b"), tmp_path / "out", resume=True)
    assert same(result.path, wanted.path) and result.held_out == wanted.held_out
    for mine, theirs in zip(result.rounds, wanted.rounds, strict=True):
        assert mine["loss"] == theirs["loss"] and not mine["failures"]


def test_nodes_that_are_lost_join_late_or_do_not_fit(lab, tmp_path, quick):
    grid, shown = grid_of(lab, "a"), Shown()
    said, failed = [], []

    def begins(number, rounds, nodes):
        if number == 2:
            grid.nodes[20] = {"device": f"{lab.folder}/b", "name": "b"}
            grid.nodes[21] = {"device": f"{lab.folder}/twin", "name": "a"}
        if number == 3:
            del grid.nodes[7], grid.nodes[21]
        if number == 4:
            grid.dead.add(20)
            grid.nodes[30] = {"device": f"{lab.folder}/a", "name": "a"}

    shown.begins, shown.say = begins, said.append
    shown.failed = lambda node, reason: failed.append((node, reason))
    options = {"rounds": 4, "local_steps": 1, "evaluate": "off"}
    result = federated(lab, grid, tmp_path / "out", shown=shown, **options)
    assert [[n["node"] for n in r["nodes"]] for r in result.rounds] == [
        ["a"], ["a", "b"], ["b"], ["a"],
    ]  # fmt: skip
    assert result.rounds[2]["failures"] == {"a": "lost: it is not connected"}
    assert result.rounds[3]["failures"] == {"b": "lost: the node is unavailable"}
    assert any("two nodes are named 'a'" in line for line in said)
    unfit = DirectGrid({1: {"device": f"{lab.folder}/nothing", "name": "c"}})
    with pytest.raises(ToolkitError, match=r"node c: .*there is no runtime"):
        federated(lab, unfit, tmp_path / "other")
    with pytest.raises(ToolkitError, match="0 of 1 nodes connected within"):
        federated(lab, DirectGrid({}), tmp_path / "none", round_minutes=0.001)


def test_a_node_that_was_started_again_is_taken(lab, tmp_path, quick):
    """While the number that it had still counts as connected; two that answer are two nodes."""
    grid, shown, said = grid_of(lab, "a", "b"), Shown(), []

    def begins(number, rounds, nodes):
        if number == 2:
            grid.deaf.add(7)  # killed, which nobody knows yet
            grid.nodes[30] = {"device": f"{lab.folder}/a", "name": "a"}
        if number == 3:
            grid.nodes[31] = {"device": f"{lab.folder}/twin", "name": "b"}
        if number == 4:
            del grid.nodes[8]

    shown.begins, shown.say = begins, said.append
    options = {"rounds": 4, "local_steps": 1, "evaluate": "off"}
    result = federated(lab, grid, tmp_path / "out", shown=shown, **options)
    assert [[n["node"] for n in r["nodes"]] for r in result.rounds] == [["a", "b"]] * 4
    assert not any(record["failures"] for record in result.rounds)
    assert [n["first_step"] for r in result.rounds for n in r["nodes"]] == [1, 1, 2, 2, 3, 3, 4, 1]
    assert [line for line in said if "does not join" in line] == [
        "a node does not join: two nodes are named 'b'"
    ]


def test_a_number_that_nobody_answers_for_ends_no_federation(lab, tmp_path, quick, monkeypatch):
    """As after a kill of server and node: the old number counts as connected for a minute."""
    monkeypatch.setattr("toolkit.federation.flower.fleet._QUERY_SECONDS", 1.0)
    grid = grid_of(lab, "a", "b")
    grid.nodes = {6: {}, **grid.nodes}
    grid.deaf.add(6)
    options = {"rounds": 1, "local_steps": 1, "evaluate": "off"}
    result = federated(lab, grid, tmp_path / "out", **options)
    assert [node["node"] for node in result.rounds[0]["nodes"]] == ["a", "b"]


def strategies():
    alone = {"fraction_evaluate": 0.0}
    return {
        "avg": FedAvg(**alone),
        "adam": FedAdam(eta=0.02, beta_1=0.0, beta_2=0.0, tau=1e-3, **alone),
        "trimmed": FedTrimmedAvg(beta=0.0, **alone),
        "private": DifferentialPrivacyServerSideFixedClipping(FedAvg(**alone), 0.0, 0.01, 2),
    }


def test_strategies_of_flower_take_and_give_adapters(lab, tmp_path):
    """Each by its formula, of what the nodes trained."""
    settings = read_federation(
        lab.config(tmp_path / "lab.yaml", state="drop", evaluate="off", train=LR)
    )
    found, counts = {}, []
    for name, strategy in strategies().items():
        beginning, grid = start.prepare(settings), grid_of(lab, "a", "b")
        replies = []
        send = grid.send_and_receive

        def kept(messages, timeout=None, *, send=send, replies=replies):
            replies.extend(send(messages))
            return replies

        grid.send_and_receive = kept
        given = {"num_rounds": 1, "train_config": beginning.config}
        result = strategy.start(grid, beginning.arrays, **given)
        beginning.save(result.arrays, tmp_path / name)
        found[name] = load_file(tmp_path / name / "adapter_model.safetensors")
        counts = [r.content.metric_records["metrics"]["num-examples"] for r in replies]
    reader = Bundle.open(lab.bundle).adapter
    begin = {PEFT_PREFIX + n: reader.tensor(n).numpy() for n in reader}
    assert all(count > 0 for count in counts)
    for name, mean in found["avg"].items():
        moved = mean - begin[name]
        adam = begin[name] + 0.02 * moved / (np.abs(moved) + 1e-3)
        np.testing.assert_allclose(found["adam"][name], adam, rtol=1e-4, atol=1e-6)
    private = [found["private"][name] - begin[name] for name in begin]
    assert 0 < np.sqrt(sum(float(np.sum(change**2)) for change in private)) <= 0.01 * (1 + 1e-5)
    assert any(not np.array_equal(found["trimmed"][n], found["avg"][n]) for n in begin)
    with pytest.raises(ToolkitError, match="exists"):
        beginning.save(beginning.arrays, tmp_path / "avg")
