"""The ClientApp on devices of this machine, message by message."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

import toolkit
from tests.federation.conftest import STEPS
from toolkit.bundle.bundle import Bundle
from toolkit.device.contents import checked_files
from toolkit.device.transfer import digest
from toolkit.federation.flower import records
from toolkit.federation.flower.client import app
from toolkit.federation.settings import read_federation


@pytest.fixture
def terms(lab, tmp_path):
    settings = read_federation(lab.config(tmp_path / "lab.yaml", "a", "b"))
    sha256 = digest(checked_files(lab.bundle, "bundle"))
    return records.Terms(tmp_path.name.replace("_", "")[:20], sha256, replace(settings, nodes=()))


def answer(kind, content, **node_config):
    message = Message(content, 1, kind)
    message.metadata.__dict__["_message_id"] = "1"
    return app(message, Context(1, 1, node_config, RecordDict(), {}))


def order(lab, terms, round=1, **more):
    reader = Bundle.open(lab.bundle).adapter
    arrays = {name: reader.tensor(name).numpy() for name in reader}
    config = records.config_record(round, terms, records.layout_of(arrays))
    return RecordDict({
        "arrays": records.array_record(arrays), "config": ConfigRecord({**config, **more}),
    })  # fmt: skip


def test_a_node_says_who_it_is_and_whether_it_fits(lab, terms):
    content = RecordDict({"config": records.config_record(0, terms)})
    where = {"device": f"{lab.folder}/a", "name": "anna"}
    said = records.said_in(answer("query", content, **where).content, "report")
    assert said == {"name": "anna", "fit": True, "reached": True, "why": "", "remedy": ""}
    other = records.Terms(terms.id, "0" * 64, terms.settings)
    content = RecordDict({"config": records.config_record(0, other)})
    said = records.said_in(answer("query", content, **where).content, "report")
    assert not said["fit"] and "lacks the federation's bundle (000000000000" in said["why"]
    assert "toolkit deploy" in said["remedy"]
    away = records.said_in(answer("query", content, device="127.0.0.1:9").content, "report")
    assert away["fit"] and not away["reached"] and away["name"] == "127.0.0.1-9"


def test_a_round_is_trained_once_and_measured(lab, terms):
    where = {"device": f"{lab.folder}/a", "name": "anna"}
    content = order(lab, terms)
    first, again = (answer("train", content, **where).content for _ in range(2))
    layout = records.layout_in(content)
    sent, trained = records.arrays_in(content, layout), records.arrays_in(first, layout)
    assert list(trained) == list(sent)
    assert all(not np.array_equal(trained[name], sent[name]) for name in sent if "lora_B" in name)
    assert {n: v.tobytes() for n, v in records.arrays_in(again, layout).items()} == {
        n: v.tobytes() for n, v in trained.items()
    }
    report = records.said_in(first, "report")
    assert (report["first_step"], report["last_step"]) == (1, STEPS)
    metrics = first.metric_records["metrics"]
    assert metrics["num-examples"] == report["labelled"] > 0 and metrics["loss"] == report["loss"]
    measured = answer("evaluate", content, **where).content.metric_records["metrics"]
    assert measured["loss"] == report["held_out_loss"]
    assert measured["num-examples"] == report["held_out_tokens"] > 0


def test_a_node_that_cannot_answers_with_the_reason(lab, terms):
    content, where = order(lab, terms), {"device": f"{lab.folder}/a"}
    lacking = RecordDict({"config": content["config"]})
    shapeless = RecordDict({"config": records.config_record(1, terms), "arrays": content["arrays"]})
    short = RecordDict({"config": content["config"], "arrays": ArrayRecord({
        "adapter": Array(np.zeros(5, np.float32))
    })})  # fmt: skip
    no_terms = RecordDict({"config": ConfigRecord({"server-round": 1})})
    terms_of_later = json.loads(terms.to_text())
    terms_of_later["settings"]["fairness"] = 1
    later = RecordDict({"config": ConfigRecord({"toolkit": json.dumps(terms_of_later)})})
    other = {**terms_of_later, "version": "9.1"}
    other = RecordDict({"config": ConfigRecord({"toolkit": json.dumps(other)})})
    del terms_of_later["version"]
    older = RecordDict({"config": ConfigRecord({"toolkit": json.dumps(terms_of_later)})})
    for kind, given, config, why in (
        ("train", content, {}, "the SuperNode names no device"),
        ("train", content, {"partition-id": 3}, "a node 3, and the federation 0 of them"),
        ("train", content, {"device": f"{lab.folder}/none"}, "there is no runtime"),
        ("train", lacking, where, "the message holds no adapter"),
        ("train", shapeless, where, "does not say what its adapter is made of"),
        ("train", short, where, "an adapter of 5 numbers, and "),
        ("train", no_terms, where, "says nothing of the federation"),
        ("query", later, where, "fairness"),
        ("query", other, where, f"has toolkit 9.1, and this node has {toolkit.__version__}"),
        ("query", older, where, "has toolkit without a version, and"),
        ("train", order(lab, terms, **{"proximal-mu": 0.1}), where, "proximal term of FedProx"),
    ):
        reply = answer(kind, given, **config)
        assert reply.has_error(), why
        assert why in reply.error.reason


def test_a_node_has_the_time_that_is_left_and_says_what_it_took(lab, terms):
    """An order that is sent again has less; a strategy of Flower's says nothing of it."""
    where = {"device": f"{lab.folder}/a", "name": "anna"}
    reply = answer("train", order(lab, terms, seconds=0.0), **where)
    report = records.said_in(reply.content, "report")
    assert report["failure"].startswith("late: ") and report["node"] == "anna"
    assert report["sent_bytes"] > 0 and "arrays" not in reply.content


_PROCESS = """
import sys
import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from toolkit.federation.flower import records
from toolkit.federation.flower.client import app
TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
arrays = dict(np.load(sys.argv[1]))
terms = records.Terms.of(RecordDict({"config": ConfigRecord({"toolkit": sys.argv[2]})}))
content = RecordDict({
    "arrays": records.array_record(arrays),
    "config": records.config_record(1, terms, records.layout_of(arrays)),
})
for kind in ("query", "train"):
    message = Message(content, 1, kind)
    message.metadata.__dict__["_message_id"] = "1"
    reply = app(message, Context(1, 1, {"device": sys.argv[3], "name": "n"}, RecordDict(), {}))
    assert not reply.has_error(), reply.error
assert "torch" not in sys.modules
"""


def test_a_message_is_answered_without_torch(lab, terms, tmp_path):
    """It takes seconds to import, and every message has a process of its own."""
    reader = Bundle.open(lab.bundle).adapter
    np.savez(tmp_path / "arrays.npz", **{name: reader.tensor(name).numpy() for name in reader})
    words = [tmp_path / "arrays.npz", terms.to_text(), lab.folder / "a"]
    subprocess.run([sys.executable, "-c", _PROCESS, *map(str, words)], check=True)
