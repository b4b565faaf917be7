"""A federation's file."""

import json

import pytest
import yaml

from toolkit.errors import ToolkitError
from toolkit.federation.settings import NodeSettings, read_federation

BASIC = {"nodes": [{"device": "0123", "data": "chats"}, "192.168.1.20:5555", "./bert"]}


def read(tmp_path, **content):
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump(content))
    return read_federation(path)


def test_nodes_are_named_and_folders_are_beside_the_file(tmp_path):
    settings = read(tmp_path, **BASIC, adapter="runs/x")
    assert settings.nodes == (
        NodeSettings(name="0123", device="0123", data="chats"),
        NodeSettings(name="192.168.1.20-5555", device="192.168.1.20:5555"),
        NodeSettings(name="bert", device=str(tmp_path / "bert")),
    )
    assert settings.bundle == str(tmp_path / "bundle")
    assert settings.adapter == str(tmp_path / "runs/x")
    assert (settings.rounds, settings.train.trace) == (10, "steps")


def test_toml_says_the_same(tmp_path):
    train = {"lr": 5e-4, "grad-accum": 2, "trace": "full"}
    wanted = read(tmp_path, **BASIC, rounds=3, train=train)
    nodes = ", ".join(
        ["{device = '0123', data = 'chats'}", "'192.168.1.20:5555'", "{device = './bert'}"]
    )
    text = f"rounds = 3\nnodes = [{nodes}]\n[train]\nlr = 5e-4\ngrad_accum = 2\ntrace = 'full'\n"
    (tmp_path / "lab.toml").write_text(text)
    assert read_federation(tmp_path / "lab.toml") == wanted
    assert json.loads(json.dumps(wanted.to_json())) == wanted.to_json()


def test_a_run_has_the_steps_of_all_rounds_or_begins_anew(tmp_path):
    kept = read(tmp_path, **BASIC, rounds=4, **{"local-steps": 5}, train={"seed": 3})
    assert [kept.run_settings(n).steps for n in (1, 4)] == [20, 20]
    assert [kept.run_settings(n).seed for n in (1, 4)] == [3, 3]
    anew = read(tmp_path, **BASIC, rounds=4, state="drop", **{"local-steps": 5})
    assert [anew.run_settings(n).steps for n in (1, 4)] == [5, 5]
    assert [anew.run_settings(n).seed for n in (1, 4)] == [0, 3]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"nodes": "x"}, "there is no list of nodes"),
        ({**BASIC, "min-nodes": 4}, "a round counts with 4 nodes, and there are 3"),
        ({**BASIC, "round": 3}, "unknown setting 'round'. Did you mean rounds?"),
        ({"nodes": [{"name": "x"}]}, "node 1 names no device"),
        ({"nodes": [{"device": "x", "port": "1"}]}, "node 1 has an unknown key 'port'"),
        ({"nodes": ["x/a", "y/a"]}, "two nodes are named 'a'"),
        ({"nodes": [{"device": "x", "name": n} for n in "ab"]}, "two nodes are on device x"),
        ({"nodes": [{"device": "x", "name": "a b"}]}, "'a b' cannot name a node"),
        ({**BASIC, "train": {"steps": 5}}, "train has 'steps', which a federation's rounds"),
        ({**BASIC, "train": {"eval_every": 5}}, "train has 'eval-every', which"),
        ({**BASIC, "train": {"rate": 5}}, "train has an unknown setting 'rate'"),
        ({**BASIC, "aggregate": "median"}, "--aggregate median is unknown"),
        ({**BASIC, "aggregate": "stack"}, "Add `state: drop`"),
        ({**BASIC, "aggregate": "scalars"}, "Add `method: mezo` to `train`"),
        ({**BASIC, "aggregate": "ffa"}, "Add `freeze: a` to `train`"),
        ({**BASIC, "state": "drop", "train": {"schedule": "cosine"}}, "a cosine schedule goes"),
        ({**BASIC, "rounds": 0}, "--rounds 0 is not between"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path, content, why):
    with pytest.raises(ToolkitError) as error:
        read(tmp_path, **content)
    assert why in str(error.value)


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(ToolkitError, match="cannot be read: No such file"):
        read_federation(tmp_path / "none.yaml")
    (tmp_path / "x.toml").write_text("a = [")
    with pytest.raises(ToolkitError, match="is no TOML"):
        read_federation(tmp_path / "x.toml")
    (tmp_path / "x.yaml").write_text("rounds: 1\nrounds: 2\n")
    with pytest.raises(ToolkitError, match="'rounds' is there twice"):
        read_federation(tmp_path / "x.yaml")
