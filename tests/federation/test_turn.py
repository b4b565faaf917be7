"""What a device remembers of its rounds, and how long a node may take."""

import struct
import time
from types import SimpleNamespace

import pytest

from tests.support.fake_dumpsys import FakeDumpsys
from toolkit.device.errors import DeviceLost
from toolkit.device.layout import Deployed
from toolkit.device.local import LocalDevice
from toolkit.federation.cooling import Cooling
from toolkit.federation.fleet import Lab
from toolkit.federation.orders import NodeFailed, NodeReport, Order
from toolkit.federation.places import Place
from toolkit.federation.settings import FederationSettings, NodeSettings
from toolkit.federation.shown import Shown
from toolkit.federation.turn import Turn


def settings(*names, **options):
    nodes = tuple(NodeSettings(name=name, device=f"/nowhere/{name}") for name in names)
    return FederationSettings(nodes=nodes, **options)


def order(folder, round=2, sha256="new", seconds=60.0):
    return Order(round, folder / "adapter.ptd", sha256, 5, seconds, folder)


@pytest.fixture
def device(tmp_path):
    (tmp_path / "runs/r").mkdir(parents=True)
    (tmp_path / "runs/r/trace.jsonl").write_bytes(b"0123456789")
    (tmp_path / "runs/r/trainer.log").write_bytes(b"error: of an earlier round\n")
    with LocalDevice(tmp_path) as device:
        yield device


def write_state(tmp_path, text):
    head = struct.pack("<8sII", b"TKSTATE\0", 3, len(text))
    (tmp_path / "runs/r/state.bin").write_bytes(head + text)


def turn(device, tmp_path, **options):
    asked = order(tmp_path, **options)
    return Turn(device, settings("a"), "r", asked, 1e9, lambda: None, lambda line: None)


def test_a_round_begins_where_the_run_is(device, tmp_path):
    write_state(tmp_path, b"step 15\nposition 15\n")
    mark = turn(device, tmp_path)._mark("adapters/x")
    assert (mark.begin, mark.trace_offset, mark.log_offset) == (15, 10, 27)
    write_state(tmp_path, b"step 18\nposition 18\n")
    assert turn(device, tmp_path)._mark("") == mark  # the same round again
    assert turn(device, tmp_path, sha256="other")._mark("").begin == 18


def test_an_order_of_an_earlier_round_is_refused(device, tmp_path):
    """Of a message that was held up, or a server that was set back; it ends no run."""
    write_state(tmp_path, b"step 15\nposition 15\n")
    mark = turn(device, tmp_path, round=3)._mark("adapters/x")
    with pytest.raises(NodeFailed, match="asked for round 2, and was in round 3 already"):
        turn(device, tmp_path, sha256="other")._mark("")
    nothing = Deployed("nothing", "/nowhere", 0.0, "")
    with pytest.raises(NodeFailed, match="was in round 3 already"):  # before anything is measured
        turn(device, tmp_path).take(nothing, nothing, NodeReport("a"), None)
    assert turn(device, tmp_path, round=3)._mark("") == mark
    assert turn(device, tmp_path, round=4)._mark("").round == 4


def test_a_run_that_ended_before_its_first_step_begins_anew(device, tmp_path):
    """What it began with is the adapter of an earlier round."""
    write_state(tmp_path, b"step 0\nposition 0\n")
    mark = turn(device, tmp_path)._mark("")
    assert (mark.begin, mark.trace_offset, mark.log_offset) == (0, 0, 0)
    assert not (tmp_path / "runs/r").exists()


@pytest.mark.parametrize("taken", [b"", b"setting taken 10 older\n", b"setting taken 9 new\n"])
def test_what_began_with_another_adapter_does_not_count(device, tmp_path, taken):
    write_state(tmp_path, b"step 10\nposition 10\n")
    mine = turn(device, tmp_path)
    mark = mine._mark("")
    write_state(tmp_path, b"step 15\nposition 15\n" + taken)
    with pytest.raises(NodeFailed, match="did not begin with the round's adapter"):
        mine._judge(mark, 15, {})
    write_state(tmp_path, b"step 15\nposition 15\nsetting taken 10 new\n")
    mine._judge(mark, 15, {})


def test_what_is_trained_is_not_measured_on_a_hot_phone(device, tmp_path, monkeypatch):
    """It is collected all the same, and the report says why it has no held-out loss."""
    phone = FakeDumpsys(tmp_path)
    monkeypatch.setenv("PATH", str(phone.bin), prepend=":")
    phone.says(celsius=42.5)
    (tmp_path / "validation.ptd").touch()
    data = Deployed("data", str(tmp_path), 0.0, "")
    mine, report, said = turn(device, tmp_path), NodeReport("a"), []
    cooling = Cooling(time.monotonic(), lambda: None, said.append, report, Place(None, bool))
    write_state(tmp_path, b"step 10\nposition 10\n")
    mine._mark("")
    write_state(tmp_path, b"step 15\nposition 15\n")
    cooling.over(device)
    assert cooling.hot()
    mine._rest(cooling)
    mine._evaluate(data, data, "", report, cooling)
    assert not said and report.held_out_error == "hot: its battery has 42.5 degrees Celsius"
    write_state(tmp_path, b"step 13\nposition 13\n")
    with pytest.raises(NodeFailed, match=r"hot: .* 42.5 .*; 3 of 5 steps in time"):
        mine._rest(cooling)


@pytest.mark.parametrize(("waited", "why"), [(2.0, "late: 1 of 2"), (3.0, "hot: it waited 3 s")])
def test_a_slow_node_is_late_though_it_was_hot_for_a_while(monkeypatch, waited, why):
    report, now = NodeReport("a"), [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("toolkit.federation.cooling.time", clock)
    cooling = Cooling(110.0, lambda: None, lambda line: None, report, Place(None, bool))
    now[0], report.hot_seconds = 110.0, waited
    assert cooling.late("1 of 2").cause.startswith(why)


def test_a_node_that_waits_for_its_turn_has_its_whole_time(tmp_path, monkeypatch):
    seen = []

    def attempt(self, asked, deadline, report, cooling):
        seen.append(deadline - time.monotonic())
        time.sleep(0.5)
        raise NodeFailed("enough")

    monkeypatch.setattr("toolkit.federation.node.Node._attempt", attempt)
    lab = Lab(settings("a", "b", at_once=1), "id", "0" * 64, Shown())
    answers = list(lab.play(order(tmp_path, seconds=10.0)))
    assert [name for name, _ in answers] == ["a", "b"]
    assert len(seen) == 2 and all(9.6 < left <= 10 for left in seen), seen


def test_numbers_that_a_device_made_up_fail_the_node_alone(tmp_path, monkeypatch):
    def attempt(self, asked, deadline, report, cooling):
        if self.name == "a":
            int(float("inf"))
        raise DeviceLost(self.name, "cut")

    monkeypatch.setattr("toolkit.federation.node.Node._attempt", attempt)
    lab = Lab(settings("a", "b"), "id", "0" * 64, Shown())
    answers = dict(lab.play(order(tmp_path, seconds=0.1)))
    assert "makes no sense" in answers["a"].cause and answers["b"].cause.startswith("lost: ")
