"""Federations of mezo by scalars alone, with the real trainer on devices of this machine."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import toolkit
from tests.federation.conftest import STEPS
from tests.federation.test_rounds import same, tensors
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader, TensorSpec, write_flat_tensor
from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.errors import ToolkitError
from toolkit.federation.aggregation import Reply
from toolkit.federation.orders import NodeReport
from toolkit.federation.scalars import Scalars, Steps, replay_of, write_moves
from toolkit.federation.settings import read_federation
from toolkit.federation.shown import Shown
from toolkit.replaying.normals import normals
from toolkit.replaying.replay import places

TRAIN = {"method": "mezo", "lr": 0.02, "zo-eps": 0.01, "weight-decay": 0.05, "lora-plus-ratio": 3}
OPTIONS = {"aggregate": "scalars", "rounds": 3, "evaluate": "off", "train": TRAIN}


def config(lab, folder, *nodes, **more):
    return lab.config(folder / "lab.yaml", *nodes, **{**OPTIONS, **more})


@pytest.fixture(scope="module")
def pair(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scalars")
    return toolkit.federate(config(lab, folder, "a", "b"), folder / "out")


def start_of(lab):
    reader = Bundle.open(lab.bundle).adapter
    return {name: reader.tensor(name).numpy().copy() for name in reader}


def applied(values, record, settings):
    """Change an adapter by a round as the rule says, in float32 operations."""
    total = sum(node["labelled"] for node in record["nodes"])
    where = places(values)
    for node in record["nodes"]:
        seed = settings.run_settings(record["round"], node["node"]).seed
        for number, (rate, [slope]) in enumerate(node["scalars"], node["first_step"]):
            rate *= node["labelled"] / total
            for name, value in values.items():
                z = normals(seed, where[name].stream(number, 0), value.size).reshape(value.shape)
                factor = -(rate * slope) * (3.0 if ".lora_B." in name else 1.0)
                value *= np.float32(1 - rate * 0.05)
                value += np.float32(factor) * z


def test_one_node_is_a_local_run_bit_by_bit(lab, tmp_path):
    path = config(lab, tmp_path, "a", rounds=2)
    result = toolkit.federate(path, tmp_path / "out")
    settings = read_federation(path)
    with toolkit.open_device(f"{lab.folder}/a") as device:
        run = device.train("mezo", settings.run_settings(1, "a"), bundle="lab", data="lab").wait()
        assert same(result.path, run.pull(tmp_path / "mezo").path)
    assert [record["product_bias"] for record in result.rounds] == [None, None]


def test_all_nodes_replay_all_steps_to_the_same_bits(lab, pair, tmp_path):
    """Devices made the last round's adapter by themselves: the bits are those of the rule."""
    settings = read_federation(config(lab, tmp_path, "a", "b"))
    wanted = start_of(lab)
    for record in pair.rounds[:2]:
        applied(wanted, record, settings)
    name = f"{pair.rounds[2]['adapter_sha256'][:16]}.ptd"
    made = [lab.folder / node / "adapters" / name for node in "ab"]
    assert made[0].read_bytes() == made[1].read_bytes()
    reader = FlatTensorReader(made[0])
    assert all(reader.tensor(n).numpy().tobytes() == v.tobytes() for n, v in wanted.items())
    applied(wanted, pair.rounds[2], settings)
    final = tensors(pair.path)
    assert all(final[PEFT_PREFIX + n].tobytes() == v.tobytes() for n, v in wanted.items())
    for record in pair.rounds:
        slopes = {node["node"]: node["scalars"] for node in record["nodes"]}
        assert len(slopes["a"]) == STEPS and slopes["a"] != slopes["b"]


def test_it_is_the_mean_of_what_the_nodes_came_to(lab, tmp_path):
    """Up to rounding, which the change is far above, and decay, which is none here."""
    result = toolkit.federate(
        config(lab, tmp_path, "a", "b", rounds=1, train={**TRAIN, "weight-decay": 0.0}),
        tmp_path / "out",
    )
    id = json.loads((result.path / "federation.json").read_text())["id"]
    nodes, start = result.rounds[0]["nodes"], start_of(lab)
    runs = [tensors(lab.folder / n["node"] / "runs" / f"fed-{id}-{n['node']}") for n in nodes]
    off = size = 0.0
    for name, own in tensors(result.path).items():
        mean = np.average(
            [run[name].astype(np.float64) for run in runs], 0, [n["labelled"] for n in nodes]
        )
        off += np.sum((own - mean) ** 2)
        size += np.sum((mean - start[name.removeprefix(PEFT_PREFIX)]) ** 2)
    assert size > 0 and np.sqrt(off / size) < 1e-5


class Killed(Exception):
    pass


class Disturbed(Shown):
    """Ends the server in round 2, or takes a node's adapters after it."""

    def __init__(self, folder=None):
        self.folder, self.lines = folder, []

    def came(self, number, report):
        if self.folder is None and number == 2:
            raise Killed

    def finished(self, record):
        if self.folder is not None and record["round"] == 2:
            for path in (self.folder / "adapters").iterdir():
                path.unlink()

    def say(self, line):
        self.lines.append(line)


def test_a_killed_server_and_a_node_without_the_last_adapter_change_no_bit(lab, pair, tmp_path):
    path = config(lab, tmp_path, "a", "b")
    with pytest.raises(Killed):
        toolkit.federate(path, tmp_path / "out", shown=Disturbed())
    shown = Disturbed(lab.folder / "b")
    result = toolkit.federate(path, tmp_path / "out", resume=True, shown=shown)
    assert same(result.path, pair.path)
    assert not any(record["failures"] for record in result.rounds)
    sent = {n["node"]: n["sent_bytes"] for n in result.rounds[2]["nodes"]}
    size = Bundle.open(lab.bundle).adapter.path.stat().st_size
    assert sent["b"] > size > sent["a"]


def test_eight_nodes_of_ten_steps_take_less_than_10_kb_a_round(lab, tmp_path):
    """To a node and from it, of a model of 0.5B: rank 8, 24 layers of seven projections."""
    shapes = {"q_proj": 896, "k_proj": 128, "v_proj": 128, "o_proj": 896, "gate_proj": 4864}
    specs = [
        TensorSpec(f"layers.{layer}.{name}.lora_{factor}.weight", shape, torch.float32)
        for layer in range(24)
        for name, out in {**shapes, "up_proj": 4864, "down_proj": 896}.items()
        for factor, shape in (("A", (8, 4864 if name == "down_proj" else 896)), ("B", (out, 8)))
    ]
    settings = read_federation(config(lab, tmp_path, *"ab", local_steps=10))
    draw = np.random.default_rng(0)
    nodes = [
        Steps(f"node-{n}", 1000 + n, 11, [(0.02, [float(g)]) for g in draw.standard_normal(10)])
        for n in range(8)
    ]
    write_flat_tensor(tmp_path / "adapter.ptd", specs, (torch.zeros(s.shape) for s in specs))
    assert (tmp_path / "adapter.ptd").stat().st_size > 17e6
    replay = replay_of(settings, 2, 24, nodes)
    assert len(replay.steps) == 80 and len({seed for seed, _ in replay.steps}) == 8
    write_moves(tmp_path / "moves.ptd", replay, tmp_path / "adapter.ptd")
    said = {**DIRECTIONS, "sparsity": 0, "seed": replay.steps[0][0]}
    steps = [(rate, list(g)) for rate, g in nodes[0].scalars]
    report = NodeReport("node-0", scalars=steps, directions=said)
    up = len(json.dumps(report.to_json()))
    down = (tmp_path / "moves.ptd").stat().st_size
    assert down > 80 * 20 and up + down <= 10_000, (up, down)


STEP = (0.02, [0.5])
DIRECTIONS = {"layers": "all", "weight_decay": 0.05, "lora_plus_ratio": 3, "b_alone": False}


@pytest.mark.parametrize(
    ("scalars", "first", "why"),
    [
        (None, 1, "it handed back no steps"),
        ([STEP] * 2, 1, "it handed back 2 of 3 steps"),
        ([STEP] * 3, 0, "it handed back 3 of 3 steps, from 0 on"),
        ([STEP] * 3, 2**31 - 2, "it handed back 3 of 3 steps, from 2147483646 on"),
        ([STEP, STEP, (0.021, [0.5])], 1, "makes no sense"),
        ([STEP, STEP, (-0.01, [0.5])], 1, "makes no sense"),
        ([STEP, STEP, (0.02, [0.5, 0.5])], 1, "makes no sense"),
        ([STEP, STEP, (0.02, [float("nan")])], 1, "makes no sense"),
        ([STEP, STEP, (0.02, [1e33])], 1, "makes no sense"),
    ],
    ids=str,
)
def test_steps_that_make_no_sense_are_refused(lab, pair, tmp_path, scalars, first, why):
    settings = read_federation(config(lab, tmp_path, "a", "b"))
    made = Scalars(Bundle.open(lab.bundle).adapter.specs(), pair.path, settings, 1, 2)
    seeds = {name: settings.run_settings(1, name).seed for name in "xz"}
    said = {**DIRECTIONS, "sparsity": 0, "seed": seeds["x"]}
    report = NodeReport("x", first_step=first, labelled=5, scalars=scalars, directions=said)
    with pytest.raises(ToolkitError, match=why):
        made.add(Reply("x", tmp_path, 5, report))
    good = replace(report, first_step=1, scalars=[STEP] * 3)
    made.add(Reply("x", tmp_path, 5, good))
    with pytest.raises(ToolkitError, match="no labelled tokens"):
        made.add(Reply("y", tmp_path, 0, good))
    last = {"first_step": 2**31 - 3, "directions": {**said, "seed": seeds["z"]}}
    made.add(Reply("z", tmp_path, 5, replace(good, **last)))  # the last that fit
    replay = replay_of(settings, 1, 2, made._nodes)
    write_moves(tmp_path / "moves.ptd", replay, Bundle.open(lab.bundle).adapter.path)
    assert len(list(made.tensors())) == len(Bundle.open(lab.bundle).adapter.specs())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 7), ("layers", "1"), ("layers", "0-9"), ("weight_decay", 0.0),
        ("lora_plus_ratio", 1.0), ("b_alone", True), ("sparsity", 0.5), (None, None),
    ],
)  # fmt: skip
def test_other_directions_than_are_replayed_are_refused(lab, pair, tmp_path, key, value):
    settings = read_federation(config(lab, tmp_path, "a", "b"))
    made = Scalars(Bundle.open(lab.bundle).adapter.specs(), pair.path, settings, 1, 2)
    own = {**DIRECTIONS, "sparsity": 0, "seed": settings.run_settings(1, "x").seed}
    good = NodeReport("x", first_step=1, labelled=5, scalars=[STEP] * 3, directions=own)
    other = None if key is None else {**own, key: value}
    with pytest.raises(ToolkitError, match=r"directions|layer"):
        made.add(Reply("x", tmp_path, 5, replace(good, directions=other)))
    assert not made._nodes
    made.add(Reply("x", tmp_path, 5, replace(good, directions={**own, "layers": "0-1"})))
