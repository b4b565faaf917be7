"""The Perfetto trace, read back with Perfetto's own messages."""

from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

from tests.trace.synthetic import Recipe, write_trace
from toolkit.errors import ToolkitError
from toolkit.trace import perfetto_encoding as encode
from toolkit.trace.analysis import Analysis, read_analysis
from toolkit.trace.perfetto import PEAK_COUNTER, write_perfetto
from toolkit.trace.schema import PHASES
from toolkit.trace.trace import NONE

Event = protos.TrackEvent


class Reading:
    """What Perfetto would see in a file."""

    def __init__(self, path: Path) -> None:
        trace = protos.Trace()
        trace.ParseFromString(path.read_bytes())
        self.packets = list(trace.packet)
        self.tracks = {
            p.track_descriptor.uuid: p.track_descriptor
            for p in self.packets
            if p.HasField("track_descriptor")
        }
        self.names = {
            (p.trusted_packet_sequence_id, entry.iid): entry.name
            for p in self.packets
            for entry in p.interned_data.event_names
        }
        self.events = [p for p in self.packets if p.HasField("track_event")]

    def counter(self, name: str, process: int = 1) -> list[tuple[int, float]]:
        uuid = next(
            track.uuid
            for track in self.tracks.values()
            if track.name == name and track.parent_uuid >> 16 == process
        )
        return [
            (p.timestamp, p.track_event.counter_value or p.track_event.double_counter_value)
            for p in self.events
            if p.track_event.track_uuid == uuid
        ]

    def slices(self, name: str) -> list[tuple[str, int, int]]:
        uuid = next(track.uuid for track in self.tracks.values() if track.name == name)
        mine = [p for p in self.events if p.track_event.track_uuid == uuid]
        begins = [p for p in mine if p.track_event.type == Event.TYPE_SLICE_BEGIN]
        ends = [p for p in mine if p.track_event.type == Event.TYPE_SLICE_END]
        return [
            (
                self.names[(b.trusted_packet_sequence_id, b.track_event.name_iid)],
                b.timestamp,
                e.timestamp,
            )
            for b, e in zip(begins, ends, strict=True)
        ]


def export(tmp_path: Path, recipe: Recipe) -> tuple[Analysis, Reading]:
    analysis = read_analysis(write_trace(tmp_path / "run" / "trace.jsonl", recipe))
    return analysis, Reading(write_perfetto([analysis], tmp_path / "out.pftrace"))


@pytest.fixture
def phone(tmp_path: Path) -> tuple[Analysis, Reading]:
    return export(tmp_path, Recipe(steps=30, layers=4, phone=True))


def test_the_peak_is_the_same(phone: tuple[Analysis, Reading]) -> None:
    analysis, reading = phone
    assert max(value for _, value in reading.counter(PEAK_COUNTER)) == analysis.peak.bytes


@pytest.mark.parametrize("recipe", [Recipe(steps=9, detail="steps"), Recipe(hwm_reset=False)])
def test_the_peak_is_the_same_without_phases_or_reset(tmp_path: Path, recipe: Recipe) -> None:
    analysis, reading = export(tmp_path, recipe)
    assert max(value for _, value in reading.counter(PEAK_COUNTER)) == analysis.peak.bytes


def test_every_phase_is_a_slice_of_its_time(phone: tuple[Analysis, Reading]) -> None:
    analysis, reading = phone
    phases = analysis.trace.phases
    names = [
        PHASES[phase] if layer == NONE else f"{PHASES[phase]} {layer}"
        for phase, layer in zip(phases["phase"].tolist(), phases["layer"].tolist(), strict=True)
    ]
    times = zip(names, phases["begin"].tolist(), phases["end"].tolist(), strict=True)
    assert reading.slices("phases") == list(times)
    assert len(reading.slices("steps")) == 30


def test_counters_hold_what_the_trace_says(phone: tuple[Analysis, Reading]) -> None:
    analysis, reading = phone
    phases = analysis.trace.phases
    values = dict(reading.counter("ledger: base weights"))
    current = None
    for t, value in zip(phases["begin"].tolist(), phases["ledger_base"].tolist(), strict=True):
        current = values.get(t, current)
        assert current == value
    assert reading.counter("bytes written, total")[-1][1] == phases["written_bytes"].sum()
    assert reading.counter("major page faults, total")[-1][1] == phases["major_faults"].sum()
    losses = [value for _, value in reading.counter("loss")]
    assert losses == analysis.trace.steps["loss"].tolist()
    assert len(reading.counter("hottest zone")) == len(analysis.trace.samples)


def test_approximate_gradients_are_called_so(tmp_path: Path) -> None:
    for lowering, shown in (("mebp", "mebp"), ("approx-bp", "approx-bp (approximate gradients)")):
        _, reading = export(tmp_path / lowering, Recipe(steps=2, layers=2, lowering=lowering))
        arguments = {
            entry.iid: entry.name
            for p in reading.packets
            for entry in p.interned_data.debug_annotation_names
        }
        told = [
            annotation.string_value
            for p in reading.events
            for annotation in p.track_event.debug_annotations
            if arguments.get(annotation.name_iid) == "lowering" or annotation.name == "lowering"
        ]
        assert told == [shown]


def test_phases_carry_the_time_of_their_operators(phone: tuple[Analysis, Reading]) -> None:
    _, reading = phone
    arguments = {
        entry.iid: entry.name
        for p in reading.packets
        for entry in p.interned_data.debug_annotation_names
    }
    sums: dict[str, int] = {}
    for p in reading.events:
        for annotation in p.track_event.debug_annotations:
            if annotation.name_iid:
                name = arguments[annotation.name_iid]
                sums[name] = sums.get(name, 0) + annotation.int_value
    analysis, _ = phone
    expected: dict[str, float] = {}
    for total in analysis.timing.operators:
        name = f"{total.operator} ns"
        expected[name] = expected.get(name, 0) + total.seconds * 1e9
    assert sums == pytest.approx(expected)


def test_device_and_run_are_metadata(phone: tuple[Analysis, Reading]) -> None:
    _, reading = phone
    run = next(p.track_event for p in reading.events if p.track_event.debug_annotations)
    facts = {a.name: a for a in run.debug_annotations}
    assert facts["device.model"].string_value == "Pixel 8"
    assert facts["settings.optimizer"].string_value == "adamw"
    assert facts["settings.lr"].double_value == 1e-4
    assert facts["bundle.layers"].int_value == 4
    assert facts["device.hwm_reset"].bool_value is True
    process = next(t.process for t in reading.tracks.values() if t.HasField("process"))
    assert process.process_name == "toolkit SmolLM2-135M-Instruct"


def test_several_runs_are_processes(tmp_path: Path) -> None:
    runs = [
        read_analysis(write_trace(tmp_path / name / "trace.jsonl", Recipe(steps=n, layers=2)))
        for name, n in (("a", 3), ("b", 5))
    ]
    reading = Reading(write_perfetto(runs, tmp_path / "both.pftrace"))
    for process, run in enumerate(runs, 1):
        peak = max(value for _, value in reading.counter(PEAK_COUNTER, process))
        assert peak == run.peak.bytes
    assert len({p.trusted_packet_sequence_id for p in reading.packets}) == 2


def test_numbers_of_any_size() -> None:
    for value in (0, 1, 127, 128, 300, 2**40, 2**62, -1, -(2**40)):
        event = encode.EventWriter(7).count(3, 5, value)
        packet = protos.Trace.FromString(event).packet[0]
        assert packet.track_event.counter_value == value
        assert (packet.timestamp, packet.trusted_packet_sequence_id) == (5, 7)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    analysis = read_analysis(write_trace(tmp_path / "trace.jsonl", Recipe(steps=2, layers=1)))
    (tmp_path / "file").touch()
    with pytest.raises(ToolkitError, match="cannot write the Perfetto trace"):
        write_perfetto([analysis], tmp_path / "file" / "out.pftrace")
