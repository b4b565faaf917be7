"""Federations by scalars over a Grid, with the real ClientApp: the same bits, by small messages."""

import json
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.common.serde import recorddict_to_proto
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

import toolkit
from tests.federation.flower.direct import DirectGrid, carry_out
from tests.federation.test_rounds import same
from toolkit.federation.flower import records
from toolkit.federation.flower.fleet import GridFleet
from toolkit.federation.rounds import Federation
from toolkit.federation.settings import read_federation
from toolkit.federation.shown import Shown

TRAIN = {"method": "mezo", "lr": 0.02, "zo-eps": 0.01}
OPTIONS = {"aggregate": "scalars", "evaluate": "off", "local_steps": 2, "train": TRAIN}


class Weighing(DirectGrid):
    """Notes how large what goes to every node and comes from it is, and with which records."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self.sizes = []

    def _answer(self, message):
        reply = super()._answer(message)
        if message.metadata.message_type == "train" and not reply.has_error():
            both = [
                len(recorddict_to_proto(m.content).SerializeToString()) for m in (message, reply)
            ]
            whole = bool(message.content.array_records)
            self.sizes.append((message.metadata.dst_node_id, whole, *both))
        return reply


def federated(config, grid, out, shown=None, *, resume=False):
    return carry_out(read_federation(config), grid, out, shown, resume=resume)


def node(lab, name):
    return {"device": f"{lab.folder}/{name}", "name": name}


def test_the_bits_are_those_of_the_lab_and_no_adapter_is_sent(lab, tmp_path):
    config = lab.config(tmp_path / "lab.yaml", "a", "b", **OPTIONS, rounds=3)
    wanted = toolkit.federate(config, tmp_path / "whole")
    grid = Weighing({7: node(lab, "b"), 8: node(lab, "a")})
    result = federated(lab.config(tmp_path / "f.yaml", **OPTIONS, rounds=3), grid, tmp_path / "out")
    assert same(result.path, wanted.path)
    assert len(grid.sizes) == 6
    for _, whole, down, up in grid.sizes:
        assert not whole and down + up < 10_000
    for mine, theirs in zip(result.rounds, wanted.rounds, strict=True):
        carried = [grid.sizes.pop(0) for _ in mine["nodes"]]
        for own, (_, _, down, up) in zip(mine["nodes"], sorted(carried, reverse=True), strict=True):
            assert abs(own["down_bytes"] - down) < 300 and abs(own["up_bytes"] - up) < 300
        own = {n["node"]: n["scalars"] for n in mine["nodes"]}
        assert own == {n["node"]: n["scalars"] for n in theirs["nodes"]} and len(own) == 2


def test_a_node_that_comes_late_or_was_away_gets_the_adapter_once(lab, tmp_path, quick):
    grid, shown = Weighing({7: node(lab, "a")}), Shown()

    def begins(number, rounds, nodes):
        if number == 2:
            grid.nodes[8] = node(lab, "b")
        if number == 4:
            grid.dead.add(8)
        if number == 5:
            grid.dead.clear()

    shown.begins = begins
    config = lab.config(tmp_path / "f.yaml", **OPTIONS, rounds=5)
    result = federated(config, grid, tmp_path / "out", shown)
    assert [len(record["nodes"]) for record in result.rounds] == [1, 2, 2, 1, 2]
    assert [whole for number, whole, *_ in grid.sizes if number == 7] == [False] * 5
    assert [whole for number, whole, *_ in grid.sizes if number == 8] == [True, False, True]
    down = [[n["down_bytes"] for n in record["nodes"]] for record in result.rounds]
    assert down[1][1] > 2 * down[1][0] and down[2][1] < 2 * down[2][0]
    saved = json.loads((lab.folder / "b/federations").joinpath(_mark(lab, result)).read_text())
    assert saved["round"] == 5 and saved["adapter"] == result.rounds[4]["adapter_sha256"]


def test_more_rounds_after_the_last_evaluation_send_the_adapter_once(lab, tmp_path):
    """It ends with nothing of the federation's on the devices; the bits are those of the lab."""
    options = {**OPTIONS, "evaluate": "auto"}
    grid = Weighing({7: node(lab, "a"), 8: node(lab, "b")})
    for resume, rounds in ((False, 2), (True, 3)):
        more = {**options, "rounds": rounds}
        wanted = toolkit.federate(
            lab.config(tmp_path / "lab.yaml", "a", "b", **more), tmp_path / "whole", resume=resume
        )
        config = lab.config(tmp_path / "f.yaml", **more)
        result = federated(config, grid, tmp_path / "out", resume=resume)
        assert same(result.path, wanted.path) and result.held_out == wanted.held_out
    assert not any(record["failures"] for record in result.rounds)
    assert [n["first_step"] for r in result.rounds for n in r["nodes"]] == [1, 1, 3, 3, 5, 5]
    for number in (7, 8):
        mine = [whole for at, whole, *_ in grid.sizes if at == number]
        # rounds 1 and 2, an evaluation, round 3 (which it lacks, then all of it), an evaluation
        assert mine == [False, False, False, False, True, False]


def test_a_node_that_changed_its_name_is_left_out_until_it_is_asked_who_it_is(lab, tmp_path):
    """It trained along directions that follow from its name."""
    grid, shown = Weighing({7: node(lab, "a"), 8: node(lab, "b")}), Shown()

    def begins(number, rounds, nodes):
        if number == 2:
            grid.nodes[8] = {"device": f"{lab.folder}/b", "name": "c"}

    shown.begins = begins
    config = lab.config(tmp_path / "f.yaml", **OPTIONS, rounds=3)
    result = federated(config, grid, tmp_path / "out", shown)
    names = [[n["node"] for n in record["nodes"]] for record in result.rounds]
    assert names == [["a", "b"], ["a"], ["a", "c"]]
    assert result.rounds[1]["failures"] == {
        "b": "it answers as 'c': its SuperNode was started with another name"
    }


def test_a_supernode_that_is_started_again_by_another_name_loses_no_round(lab, tmp_path):
    """Two that are given each other's are asked who they are, too."""
    grid, shown = Weighing({7: node(lab, "a"), 8: node(lab, "b")}), Shown()

    def begins(number, rounds, nodes):
        if number == 2:
            grid.nodes[8] = {"device": f"{lab.folder}/b", "name": "c"}
            grid.connected[8] = "later"
        if number == 3:
            grid.nodes = {7: {**grid.nodes[7], "name": "c"}, 8: {**grid.nodes[8], "name": "a"}}
            grid.connected = {7: "later", 8: "later still"}

    shown.begins = begins
    config = lab.config(tmp_path / "f.yaml", **OPTIONS, rounds=3)
    result = federated(config, grid, tmp_path / "out", shown)
    names = [[n["node"] for n in record["nodes"]] for record in result.rounds]
    assert names == [["a", "b"], ["a", "c"], ["a", "c"]]
    assert not any(record["failures"] for record in result.rounds)


def _mark(lab, result):
    id = json.loads((result.path / "federation.json").read_text())["id"]
    return f"fed-{id}-b.json"


NONSENSE = [
    ("labelled", 0, "it trained on no labelled tokens"),
    ("labelled", -3, "its report makes no sense (labelled: -3)"),
    ("loss", float("nan"), "its report makes no sense (loss: nan)"),
    ("train_seconds", float("inf"), "its report makes no sense (train_seconds: inf)"),
    ("peak_bytes", 10**400, "its report makes no sense (peak_bytes: 1000"),
    ("loss", None, "its report has no loss"),
    ("labelled", 2 * 64 + 1, "it says that it learned 129 tokens, and its steps have up to 128"),
    ("labelled", 2**60, "its report makes no sense (labelled: 1152921504606846976)"),
]


class Lying(DirectGrid):
    """A client whose reports and whose name are made up."""

    round, name = 0, ""

    def _answer(self, message):
        reply = super()._answer(message)
        if message.metadata.dst_node_id != 8 or reply.has_error():
            return reply
        said = dict(records.said_in(reply.content, "report"))
        if message.metadata.message_type == "train":
            key, value, _ = NONSENSE[self.round - 1]
            said[key] = value
        elif self.name:
            said["name"] = self.name
        reply.content["report"] = records.json_record(said)
        return reply


def numbered(kind, rounds, lab, tmp_path):
    """Federate two nodes over a grid that knows the number of the round."""
    grid, shown = kind({7: node(lab, "a"), 8: node(lab, "b")}), Shown()
    shown.begins = lambda number, rounds, nodes: setattr(grid, "round", number)
    options = {"evaluate": "off", "local_steps": 1, "rounds": rounds}
    return federated(lab.config(tmp_path / "f.yaml", **options), grid, tmp_path / "out", shown)


def test_numbers_that_a_client_made_up_leave_it_out_of_the_round(lab, tmp_path):
    result = numbered(Lying, len(NONSENSE), lab, tmp_path)
    for record, (_, _, why) in zip(result.rounds, NONSENSE, strict=True):
        assert [n["node"] for n in record["nodes"]] == ["a"]
        assert record["failures"]["b"].startswith(why)


def npy(header, data=b""):
    """An adapter of any bytes."""
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"fortran_order": False, **header})
    return of_bytes(file.getvalue() + data)


def of_bytes(data):
    array = Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=data)
    return {"arrays": ArrayRecord({"adapter": array})}


def nested(record):
    return {record: ConfigRecord({"json": "[" * 200_000})}


BROKEN = [
    (nested("report"), "the answer has no report"),
    ({"report": ConfigRecord({"json": 3.5})}, "the answer has no report"),
    (of_bytes(b"PK\3\4" + bytes(40)), "the message holds no adapter (the magic string is not"),
    (of_bytes(b""), "the message holds no adapter (EOF"),
    (npy({"descr": "<f4", "shape": (10**15,)}), "of 1000000000000000 numbers, and "),
    (npy({"descr": "|O", "shape": (5,)}), "the message holds no adapter of floats"),
    (None, "its answer makes no sense (KeyError: "),
]


class Broken(DirectGrid):
    """Node 8 answers with what cannot be read."""

    round = 0

    def _answer(self, message):
        reply = super()._answer(message)
        if message.metadata.dst_node_id == 8 and message.metadata.message_type == "train":
            for name, record in (BROKEN[self.round - 1][0] or {"cut": ConfigRecord()}).items():
                reply.content[name] = record
        return reply

    def pull_messages(self, message_ids):
        replies = super().pull_messages(message_ids)
        for reply in replies:
            if not reply.has_error() and "cut" in reply.content:
                inflate_object_from_contents("0" * 64, {})  # as of one that lacks an object
        return replies


def test_answers_that_cannot_be_read_leave_their_node_out_of_the_round(lab, tmp_path):
    result = numbered(Broken, len(BROKEN), lab, tmp_path)
    for record, (_, why) in zip(result.rounds, BROKEN, strict=True):
        assert [n["node"] for n in record["nodes"]] == ["a"]
        assert why in record["failures"]["b"], record["failures"]


@pytest.mark.parametrize("name", ["../../x", "/x", "", "a\n", "x" * 25])
def test_a_name_that_leads_elsewhere_joins_nothing(lab, tmp_path, name):
    """The server makes a folder of a node's name."""
    grid, shown = Lying({7: node(lab, "a"), 8: node(lab, "b")}), Shown()
    grid.name, said = name or " ", []
    shown.say = said.append
    settings = read_federation(lab.config(tmp_path / "f.yaml"))
    made = Federation(
        settings, tmp_path / "out", shown, resume=False, fleet=partial(GridFleet, grid)
    )
    before = sorted(path for path in tmp_path.rglob("*"))
    assert [str(error) for error in made.fleet._meet()] == ["node 8 has a name that cannot be one"]
    assert list(made.fleet._nodes) == ["a"] and before == sorted(tmp_path.rglob("*"))
