"""Reports of nodes: numbers that no node can have measured fail it, not the federation."""

import json

import pytest

from toolkit.federation.orders import NodeFailed, NodeReport
from toolkit.federation.said import report_of

DIRECTIONS = {
    "seed": 2**48 - 1, "layers": "all", "weight_decay": 0, "lora_plus_ratio": 1.5,
    "b_alone": False, "sparsity": 0,
}  # fmt: skip
GOOD = NodeReport(
    "a",
    1,
    3,
    40,
    2.5,
    2.25,
    100,
    None,
    1.5,
    2,
    1 << 30,
    10,
    20,
    30,
    40,
    1,
    2.5,
    [(0.1, [-3.5])],
    DIRECTIONS,
)


def test_a_report_comes_back_from_json():
    said = json.loads(json.dumps(GOOD.to_json()))
    report = report_of(said, "a")
    assert report.to_json() == json.loads(json.dumps(GOOD.to_json())) and report.node == "a"
    assert report_of({}, "b") == NodeReport("b")  # of a version that says less


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("loss", value) for value in ("NaN", "Infinity", "-Infinity", "-1", "1e300", '"2"')),
        *(("labelled", value) for value in ("-1", "1.5", "9007199254740992", "1" + "0" * 400)),
        *(("labelled", value) for value in ("true", "null", "NaN", "[]")),
        *(("train_seconds", value) for value in ("NaN", "-0.5", "null", "1" + "0" * 400)),
        *(("peak_bytes", value) for value in ("-1", "1e30")),
        *(("held_out_error", value) for value in ("3", json.dumps("x" * 2000))),
        *(("scalars", value) for value in ("3", "[3]", "[[0.1, 3]]", "[[0.1, [NaN]]]")),
        ("scalars", json.dumps([[0.1, [1.0] * 1001]])),
        *(("directions", value) for value in ("3", "{}", json.dumps({**DIRECTIONS, "layers": 3}))),
        *(("directions", json.dumps({**DIRECTIONS, key: "x"})) for key in ("seed", "sparsity")),
        ("directions", json.dumps({**DIRECTIONS, "seed": 2**60})),
        ("scalars", "[[1" + "0" * 400 + ", [1]]]"),
    ],
    ids=lambda value: value[:12],
)
def test_numbers_that_make_no_sense_are_refused_by_name(name, value):
    said = json.loads(json.dumps(GOOD.to_json()))
    said[name] = json.loads(value)
    with pytest.raises(NodeFailed, match=f"its report makes no sense \\({name}: ") as error:
        report_of(said, "a")
    assert len(error.value.cause) < 120
