"""The app that `flwr run` takes; needs no Flower."""

import tomllib

import pytest

from toolkit.errors import ToolkitError
from toolkit.federation.flower.project import asked, write_project
from toolkit.federation.settings import read_federation


def flat(table, prefix=""):
    """As Flower hands a run's configuration to a ServerApp."""
    found = {}
    for key, value in table.items():
        found |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return found


def test_the_app_asks_for_the_federation_of_the_file(tmp_path):
    text = "nodes: [{device: ./x, name: 'x'}, SERIAL]\nrounds: 7\ntrain: {lr: 1e-3, method: lcsb}\n"
    (tmp_path / "lab.yaml").write_text(text)
    settings = read_federation(tmp_path / "lab.yaml")
    write_project(settings, tmp_path / "out", tmp_path / "My study", tmp_path / "board")
    path = tmp_path / "My study/pyproject.toml"
    project = tomllib.loads(path.read_text())
    assert project["project"]["name"] == "my-study"
    config = flat(project["tool"]["flwr"]["app"]["config"])
    assert all(isinstance(value, str | int | float | bool) for value in config.values())
    assert asked(config) == (settings, tmp_path / "out", False, str(tmp_path / "board"))
    assert asked(config | {"tensorboard": ""}).tensorboard is None
    changed = asked(config | {"rounds": 9, "train.lr": 0.5, "resume": True, "nodes": ""})
    assert (changed[0].rounds, changed[0].train.flags()["lr"], changed[0].nodes, changed[2]) == (
        9,
        0.5,
        (),
        True,
    )
    with pytest.raises(ToolkitError, match="no `out`"):
        asked(config | {"out": ""})
    with pytest.raises(ToolkitError, match="`nodes` of the run configuration is no JSON"):
        asked(config | {"nodes": "x"})
    with pytest.raises(ToolkitError, match=r"unknown.*lrr"):
        asked(config | {"train.lrr": 1})
    write_project(settings, tmp_path / "other", tmp_path / "My study")
    path.write_text("[project]\n")
    with pytest.raises(ToolkitError, match="is not a federation's"):
        write_project(settings, tmp_path / "out", tmp_path / "My study")
