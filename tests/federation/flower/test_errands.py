"""Requests that fail, answers that get lost and SuperNodes that are started again."""

import httpx
import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_object_tree, iterate_object_tree

import toolkit
from tests.federation.flower.test_server import LR, federated, grid_of
from tests.federation.test_rounds import same
from toolkit.federation.flower import records
from toolkit.federation.shown import Shown


def failed(code: int, path: str) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", f"http://127.0.0.1/v1/runtime/{path}")
    return httpx.HTTPStatusError(f"{code}", request=request, response=httpx.Response(code))


@pytest.fixture(scope="module")
def whole(lab, tmp_path_factory):
    """The federation that all must come to."""
    folder = tmp_path_factory.mktemp("whole")
    return toolkit.federate(lab.config(folder / "lab.yaml", "a", "b", train=LR), folder / "out")


def check(result, whole):
    assert same(result.path, whole.path) and result.held_out == whole.held_out
    for mine, theirs in zip(result.rounds, whole.rounds, strict=True):
        assert mine["loss"] == theirs["loss"] and not mine["failures"]


@pytest.mark.parametrize("before", [True, False], ids=["not carried out", "carried out"])
def test_requests_that_fail_change_no_bit(lab, whole, tmp_path, quick, before):
    """Messages that were sent all the same, answers that were taken off and did not come."""
    grid, seen, failures = grid_of(lab, "a", "b"), {"push": 0, "pull": 0}, []

    def fails(request, now):
        if now == before:
            seen[request] += 1
            if seen[request] % 3 == 1:
                failures.append(request)
                raise failed(500, f"{request}-{'messages' if before else 'object'}")

    grid.fails = fails
    check(federated(lab, grid, tmp_path / "out"), whole)
    assert failures.count("push") >= 2 and failures.count("pull") >= 2


def test_a_supernode_that_is_started_again_in_a_round_loses_nothing(lab, whole, tmp_path, quick):
    grid, shown = grid_of(lab, "a", "b"), Shown()
    push = grid.push_messages

    def pushed(messages):
        """The message is with a SuperNode that is killed, and one that starts knows nothing."""
        ids = push(messages)
        if any(m.metadata.dst_node_id in grid.deaf for m in messages):
            grid.deaf.clear()
            grid.connected[8] = f"later {len(grid.under_way)}"
        return ids

    grid.push_messages = pushed
    shown.begins = lambda number, rounds, nodes: grid.deaf.add(8)
    check(federated(lab, grid, tmp_path / "out", shown=shown), whole)
    assert grid.connected


def test_a_request_that_always_fails_fails_the_node_with_the_reason(lab, tmp_path, quick):
    grid, shown = grid_of(lab, "a", "b"), Shown()

    def begins(number, rounds, nodes):
        def fails(request, before):
            if request == "push" and before:
                raise failed(507, "push-messages")

        grid.fails = fails

    shown.begins = begins
    options = {"rounds": 1, "evaluate": "off"}
    with pytest.raises(toolkit.ToolkitError, match=r"a: lost: the message could not be sent \(507"):
        federated(lab, grid, tmp_path / "out", shown=shown, **options)


def test_an_adapter_is_a_few_objects_however_many_tensors_it_has():
    """Of 17.6 MB: Flower sends parts of 5 MB, and every array and record by itself."""
    draw = np.random.default_rng(0).standard_normal
    shapes = [(8, 896), (896, 8), (8, 4864), (4864, 8)] * 48
    arrays = {f"t{i}": draw(shape, np.float32) for i, shape in enumerate(shapes)}
    content = RecordDict({records.ARRAYS: records.array_record(arrays)})
    tree = get_object_tree(Message(content, 1, "train"))
    assert len(list(iterate_object_tree(tree))) <= 8
    back = records.arrays_in(content, records.layout_of(arrays))
    assert list(back) == list(arrays)
    assert all(back[n].tobytes() == v.tobytes() for n, v in arrays.items())
