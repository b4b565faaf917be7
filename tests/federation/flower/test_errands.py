"""Requests that fail, answers that get lost and SuperNodes that are started again."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_object_tree, iterate_object_tree

import toolkit
from tests.federation.flower.direct import DirectGrid
from tests.federation.flower.test_server import LR, federated, grid_of
from tests.federation.test_rounds import same
from toolkit.federation.flower import errands, records
from toolkit.federation.flower.patience import Patience
from toolkit.federation.node import Node
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


def kind_of(message: Message) -> str:
    content = message.content.config_records["config"]
    return "question" if records.UNDER_WAY in content else message.metadata.message_type


def test_a_message_that_nobody_got_is_sent_again(lab, whole, tmp_path, quick, monkeypatch):
    """As of a SuperLink that answers with an error when it has marked the message as taken."""
    for name in ("_LEAST_SECONDS", "_TIMES"):
        monkeypatch.setattr(f"toolkit.federation.flower.patience.{name}", 0.2)
    grid, lost, kinds = grid_of(lab, "a", "b"), ["query", "train", "train"], []
    push = grid.push_messages

    def pushed(messages):
        for message in messages:
            if message.metadata.dst_node_id == 8:
                kinds.append(kind_of(message))
                if kinds[-1] in lost:
                    lost.remove(kinds[-1])
                    grid.deaf.add(8)
        ids = push(messages)
        grid.deaf.clear()
        return ids

    grid.push_messages = pushed
    result = federated(lab, grid, tmp_path / "out", round_minutes=0.3)
    check(result, whole)
    assert not lost and kinds[:2] == ["query"] * 2
    orders = [kind for kind in kinds if kind == "train"]
    assert len(orders) == len(result.rounds) + 1 + 2  # the last only measures
    first = kinds.index("train")
    assert kinds[first : first + 4] == ["train", "question"] * 2


def test_a_slow_node_that_is_asked_twice_counts_once(lab, whole, tmp_path, quick, monkeypatch):
    """It is busy when it is asked first, and its first answer comes after its second."""
    grid, rounds, said, orders = grid_of(lab, "a", "b"), [], [], []
    monkeypatch.setattr(Patience, "seconds", lambda self, whole: 0.1 if len(orders) < 2 else whole)
    grid._pool = ThreadPoolExecutor(8)
    answer, play, push = grid._answer, Node.play, grid.push_messages
    playing, asked, twice = threading.Event(), threading.Event(), threading.Event()

    def pushed(messages):
        sent = [m for m in messages if m.metadata.dst_node_id == 8 and kind_of(m) == "train"]
        orders.extend(sent)
        return push(messages)

    def answered(message):
        if (kind := kind_of(message)) == "train" and message.metadata.dst_node_id == 8:
            rounds.append(message.content["config"]["server-round"])
            first = len(rounds) == 1
        if kind == "question":
            playing.wait(30)
        reply = answer(message)
        if kind == "question":
            said.append(records.said_in(reply.content, "report")[records.UNDER_WAY])
            asked.set()
        elif kind == "train" and message.metadata.dst_node_id == 8:
            first and twice.wait(30)
            twice.set()
        return reply

    def played(self, order):
        if self.name == "b" and order.round == 1:
            playing.set()
            asked.wait(30)
        return play(self, order)

    grid._answer, grid.push_messages = answered, pushed
    monkeypatch.setattr(Node, "play", played)
    result = federated(lab, grid, tmp_path / "out")
    check(result, whole)
    assert said[0] is True and False in said
    assert rounds == [1, 1, 2, 3]  # the last only measures
    for mine, theirs in zip(result.rounds, whole.rounds, strict=True):
        for key in ("node", "first_step", "last_step", "labelled", "loss"):
            assert [n[key] for n in mine["nodes"]] == [n[key] for n in theirs["nodes"]]


class Silent:
    """A node that answers what and when a test says, to an order and what followed it."""

    def __init__(self, monkeypatch, seconds=660.0, **given):
        begun = time.monotonic()
        self.grid, self.now, self.sent = DirectGrid({7: {}, 8: {}}), [begun], []
        self.grid.deaf = {7, 8}
        push = self.grid.push_messages

        def pushed(messages):
            ids = push(messages)
            self.sent.extend(messages)
            return ids

        self.grid.push_messages = pushed
        monkeypatch.setattr(errands.time, "monotonic", lambda: self.now[0])
        self.post, self.patience = errands.Post(self.grid), Patience()
        given = {"patience": self.patience, **given}
        content = RecordDict({"config": ConfigRecord({"seconds": seconds - 60})})
        [self.errand] = self.post.send(content, "train", [7], seconds, **given)

    def says(self, number, what):
        reply = Message(what, reply_to=self.sent[number])
        self.grid.under_way[f"m{number}"].set_result(reply)

    def after(self, seconds):
        self.now[0] += seconds
        return self.post.answer(self.errand)


def good(number=1):
    return RecordDict({"report": records.json_record({"number": number})})


def question():
    return RecordDict({"config": ConfigRecord({records.UNDER_WAY: True})})


def test_an_answer_to_an_earlier_message_counts(monkeypatch):
    node = Silent(monkeypatch)
    assert node.after(331) is None and len(node.sent) == 2
    node.says(0, good())
    reply = node.after(5)
    assert reply.metadata.reply_to_message_id == "m0" and len(node.sent) == 2
    assert [m.content["config"]["seconds"] for m in node.sent] == [600, pytest.approx(269)]


@pytest.mark.parametrize("code", [3, 8])
def test_an_earlier_message_that_came_to_nothing_changes_nothing(monkeypatch, code):
    node = Silent(monkeypatch)
    assert node.after(331) is None
    node.says(0, Error(code, "gone"))
    assert node.after(5) is None and node.errand.id == "m1"
    node.says(1, good())
    assert node.after(5).metadata.reply_to_message_id == "m1" and len(node.sent) == 2


@pytest.mark.parametrize("failed", [0, 1])
@pytest.mark.parametrize(
    "failure",
    [Error(2, "it failed"), RecordDict({"report": records.json_record({"failure": "hot"})})],
    ids=["error", "report"],
)
def test_of_two_answers_one_that_failed_does_not_count(monkeypatch, failed, failure):
    node = Silent(monkeypatch)
    assert node.after(331) is None
    node.says(failed, failure)
    node.says(1 - failed, good())
    assert node.after(5).content["report"] == good()["report"]


def test_a_question_ends_with_the_message_it_was_asked_about(monkeypatch):
    """That the node was free says nothing of an order that it is sent later; bytes are counted."""
    node = Silent(monkeypatch, question=question())
    assert node.after(331) is None and kind_of(node.sent[1]) == "question"
    assert node.sent[1].metadata.ttl > 170  # a clock that is a minute ahead makes an answer older
    node.says(0, Error(8, "crashed"))
    assert node.after(4) is None and node.errand.id == ""
    node.says(1, RecordDict({"report": records.json_record({records.UNDER_WAY: False})}))
    for _ in range(6):
        assert node.after(2) is None
    assert [kind_of(m) for m in node.sent] == ["train", "question", "train"]
    bytes_sent = sum(records.size_of(m.content) for m in node.sent)
    assert node.errand.sent == bytes_sent and node.errand.tries == 2


def test_a_question_that_is_under_way_when_the_answer_comes_is_counted(monkeypatch):
    node = Silent(monkeypatch, question=question())
    assert node.after(331) is None
    node.says(0, good())
    assert node.after(5) is not None
    assert node.errand.sent == sum(records.size_of(m.content) for m in node.sent)
    assert len(node.sent) == 2


def test_a_question_is_not_sent_after_its_end(monkeypatch):
    """Without time to live a message would have that of all, which is half a day."""
    node = Silent(monkeypatch, question=question())

    def fails(request, before):
        if request == "push":
            raise failed(500, "push-messages")

    node.grid.fails = fails
    assert node.after(331) is None
    node.grid.fails = lambda request, before: None
    assert node.after(70) is None and node.after(1) is None
    assert len(node.sent) == 1 and node.errand.tries == 1


def test_nobody_waits_for_a_node_that_is_lost(monkeypatch):
    node = Silent(monkeypatch)
    node.post.send(RecordDict(), "train", [8], 660.0, patience=node.patience)
    assert node.patience.asked == 2
    node.says(0, Error(5, "away"))
    del node.grid.nodes[7]
    assert node.after(5) is None
    assert isinstance(node.after(70), errands.Unheard) and node.patience.asked == 1


def test_answers_are_looked_for_less_often_the_longer_they_take(lab, monkeypatch):
    """Every look takes a lock of the SuperLink's database, which its nodes wait for."""
    begun = time.monotonic()
    grid, now, pulls = grid_of(lab, "a"), [begun], []
    grid.deaf.add(7)
    monkeypatch.setattr(errands.time, "monotonic", lambda: now[0])
    grid.fails = lambda request, before: pulls.append(now[0]) if request == "pull" else None
    post = errands.Post(grid)
    [errand] = post.send(RecordDict(), "train", [7], 600.0)
    for tick in range(400):
        now[0] = begun + 0.3 * tick
        assert post.answer(errand) is None
    gaps = np.diff(pulls)
    assert gaps[:20].max() < 0.7 and gaps[-10:].min() > 2.9 and gaps.max() < 3.4
    assert len(pulls) < 100


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
