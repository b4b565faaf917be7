"""The fleet of a Grid and Flower's own strategies, with the real ClientApp on real trainers."""

import threading
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedTrimmedAvg,
    Krum,
)
from safetensors.numpy import load_file

import toolkit
from tests.federation.flower.direct import DirectGrid, carry_out
from tests.federation.test_failures import kill_when_it_trains
from tests.federation.test_rounds import same
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.errors import ToolkitError
from toolkit.federation.flower import errands, records, start
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
    [spent] = result.rounds[3]["failed"]
    assert spent["node"] == "b" and spent["seconds"] > 0 and spent["down_bytes"] > 0
    assert spent.keys() == {"node", "seconds", "down_bytes"}  # nobody knows the others
    assert any("two nodes are named 'a'" in line for line in said)
    unfit = DirectGrid({1: {"device": f"{lab.folder}/nothing", "name": "c"}})
    with pytest.raises(ToolkitError, match=r"node c: .*there is no runtime"):
        federated(lab, unfit, tmp_path / "other")
    with pytest.raises(ToolkitError, match="0 of 1 nodes connected within"):
        federated(lab, DirectGrid({}), tmp_path / "none", round_minutes=0.001)


def test_a_node_that_fails_says_what_it_took(lab, tmp_path, quick):
    grid, shown, killers = grid_of(lab, "a", "b"), Shown(), []

    def begins(number, rounds, nodes):
        killers.append(threading.Thread(target=kill_when_it_trains, args=[lab.folder / "b"]))
        killers[0].start()

    shown.begins = begins
    options = {"rounds": 1, "local_steps": 200, "evaluate": "off"}
    result = federated(lab, grid, tmp_path / "out", shown=shown, **options)
    killers[0].join()
    [record] = result.rounds
    [spent] = record["failed"]
    assert [node["node"] for node in record["nodes"]] == ["a"]
    assert spent["node"] == "b" and "signal 9" in record["failures"]["b"]
    counted = ("sent_bytes", "received_bytes", "down_bytes", "up_bytes", "seconds")
    assert all(spent[name] > 0 for name in counted)


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
    options["nodes"] = []  # and so no simulation, whose nodes have more time the more there are
    sent, push = [], grid.push_messages
    grid.push_messages = lambda messages: sent.extend(messages) or push(messages)
    result = federated(lab, grid, tmp_path / "out", **options)
    asked = [m.metadata.ttl for m in sent if m.metadata.message_type == MessageType.QUERY]
    assert len(asked) >= 3 and max(asked) <= 1.0 + errands._SLACK_SECONDS
    assert [node["node"] for node in result.rounds[0]["nodes"]] == ["a", "b"]


def tensors_of(grid, strategy, beginning, folder, rounds=1):
    """Return the adapter that a strategy comes to, and all that nodes handed back."""
    replies, send = [], grid.send_and_receive

    def kept(messages, timeout=None):
        answers = send(messages)
        replies.extend(answers)
        return answers

    grid.send_and_receive = kept
    given = {"num_rounds": rounds, "train_config": beginning.config}
    result = strategy.start(grid, beginning.arrays, **given)
    beginning.save(result.arrays, folder)
    return load_file(folder / "adapter_model.safetensors"), replies


def test_krum_takes_one_of_those_that_agree(lab, tmp_path):
    """Of three nodes, one of which learned something else and says so with a hundred times the
    weight; the arithmetic fits, since the adapter is one array.
    """
    settings = read_federation(
        lab.config(tmp_path / "lab.yaml", state="drop", evaluate="off", train=LR)
    )
    beginning, grid = start.prepare(settings), grid_of(lab, "a", "twin", "b")
    strategy = Krum(num_malicious_nodes=1, fraction_evaluate=0.0, min_train_nodes=3)
    answer = grid._answer

    def lying(message):
        reply = answer(message)
        if message.metadata.dst_node_id == 9:
            far = reply.content["arrays"]["adapter"].numpy() * 100
            reply.content["arrays"] = ArrayRecord({"adapter": Array(far)})
        return reply

    grid._answer = lying
    found, replies = tensors_of(grid, strategy, beginning, tmp_path / "out")
    layout = records.layout_of({n: beginning.bundle.adapter.tensor(n).numpy() for n in
                                beginning.bundle.adapter})  # fmt: skip
    own = {r.metadata.src_node_id: records.arrays_in(r.content, layout) for r in replies}
    assert len(own) == 3
    for name, values in own[7].items():  # its twin has the same
        assert found[PEFT_PREFIX + name].tobytes() == values.tobytes()
        assert values.tobytes() == own[8][name].tobytes() != own[9][name].tobytes()


def test_krum_needs_memory_for_two_adapters_more_of_every_node():
    """Beside the replies, which are held too: three of every node, as docs/federation.md says."""
    nodes, size = 12, 250_000
    draw = np.random.default_rng(0)
    replies = []
    for number in range(nodes):
        row = draw.standard_normal(size, np.float32)
        content = RecordDict({
            "arrays": ArrayRecord({"adapter": Array(row)}),
            "metrics": MetricRecord({"num-examples": 5}),
        })  # fmt: skip
        asked = Message(RecordDict(), number + 1, "train")
        asked.metadata.__dict__["_message_id"] = str(number)
        replies.append(Message(content, reply_to=asked))
    tracemalloc.start()
    try:
        Krum(num_malicious_nodes=1).aggregate_train(1, replies)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 1.8 < peak / (4 * size * nodes) < 2.4


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
        found[name], replies = tensors_of(grid, strategy, beginning, tmp_path / name)
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
