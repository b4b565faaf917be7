"""Rounds in TensorBoard, as its own reader finds them."""

import pytest

import toolkit
from toolkit.errors import ToolkitError
from toolkit.federation.shown import Shown

event_accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
)


def read(folder):
    found = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


class Ending(Exception):
    pass


class Ends(Shown):
    def came(self, number, report):
        if number == 2:
            raise Ending


def test_every_round_is_there_once_through_a_kill(lab, tmp_path):
    board, out = tmp_path / "board", tmp_path / "lab"
    config = lab.config(tmp_path / "lab.yaml", "a", "b", train={"lr": 0.017})
    with pytest.raises(Ending):
        toolkit.federate(config, out, shown=Ends(), tensorboard=board)
    result = toolkit.federate(config, out, resume=True, tensorboard=board)
    found = read(board / "lab")
    steps = [1, 2]
    for tag, key in {"train/loss": "loss", "federation/product_bias": "product_bias"}.items():
        assert [step for step, _ in found[tag]] == steps
        wanted = [record[key] for record in result.rounds]
        assert [value for _, value in found[tag]] == pytest.approx(wanted, rel=1e-6)
    assert [step for step, _ in found["held_out/loss"]] == [0, 1, 2]
    held_out = [value for _, value in found["held_out/loss"]]
    assert held_out == pytest.approx(result.held_out, rel=1e-6)
    assert found["federation/nodes"] == [(1, 2.0), (2, 2.0)]
    assert found["federation/failures"] == [(1, 0.0), (2, 0.0)]
    sent = [sum(node["sent_bytes"] for node in record["nodes"]) for record in result.rounds]
    assert [value for _, value in found["federation/bytes_to_nodes"]] == pytest.approx(sent)
    with pytest.raises(ToolkitError, match="has points of another run"):
        toolkit.federate(config, tmp_path / "x" / "lab", tensorboard=board)
    assert not (tmp_path / "x").exists()
