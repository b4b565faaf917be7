"""A run as a Perfetto trace, to look at in ui.perfetto.dev or to ask with its trace processor.

A process for every run, with rows of slices for steps and phases, counters for the ledger's
categories, the high-water mark of every phase, resident memory, page faults and storage traffic,
and with device, settings and the bundle as arguments of one slice over the whole run. The slice of
a phase has the time of its operators in ns as arguments ("attention_backward ns"). A counter's
value is written when it changes; the high-water mark and the ledger of a phase stand at its begin.
"""

from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path

import numpy as np
from msgspec.structs import asdict
from numpy.typing import NDArray

from toolkit.choices import lowering_label
from toolkit.errors import ToolkitError
from toolkit.files import atomic_file
from toolkit.trace import perfetto_encoding as encode
from toolkit.trace.analysis import Analysis
from toolkit.trace.analysis.memory import LABELS, resident_of_samples
from toolkit.trace.analysis.timing import last_time
from toolkit.trace.operators import NO_OPERATORS
from toolkit.trace.perfetto_encoding import UNIT_BYTES, UNIT_COUNT, EventWriter
from toolkit.trace.schema import CATEGORIES, PHASES
from toolkit.trace.trace import NONE
from toolkit.trace.units import KIB

PEAK_COUNTER = "peak memory (VmHWM)"
_RESIDENT = {
    "rss_anon": "resident anonymous",
    "rss_file": "resident file",
    "rss_shmem": "resident shared",
    "swap": "swap",
}
_SUMS = {
    "major_faults": ("major page faults", UNIT_COUNT),
    "minor_faults": ("minor page faults", UNIT_COUNT),
    "read_bytes": ("bytes read", UNIT_BYTES),
    "written_bytes": ("bytes written", UNIT_BYTES),
}


def write_perfetto(analyses: Iterable[Analysis], path: str | Path) -> Path:
    """Write runs as one Perfetto trace, whole or not at all, and return its path.

    Raises:
        ToolkitError: The file cannot be written.
    """
    path = Path(path)
    try:
        with atomic_file(path) as file:
            for number, analysis in enumerate(analyses, 1):
                for chunk in _in_chunks(_Run(analysis, number).packets()):
                    file.write(chunk)
    except OSError as error:
        raise ToolkitError(
            f"cannot write the Perfetto trace {path}: {error.strerror or error}"
        ) from error
    return path


def _in_chunks(packets: Iterator[bytes], size: int = 4096) -> Iterator[bytes]:
    chunk: list[bytes] = []
    for packet in packets:
        chunk.append(packet)
        if len(chunk) == size:
            yield b"".join(chunk)
            chunk.clear()
    yield b"".join(chunk)


class _Run:
    def __init__(self, analysis: Analysis, number: int) -> None:
        self.analysis, self.trace, self.number = analysis, analysis.trace, number
        self.process = number << 16
        self.events = EventWriter(number)
        self.names: dict[str, int] = {}
        self.uuid = self.process

    def packets(self) -> Iterator[bytes]:
        """Yield everything; the first packets name what the others refer to."""
        self._name_phases()
        arguments = [f"{name} ns" for name in self.trace.operators.names]
        interned = encode.interned_names(self.names, arguments)
        yield encode.packet(interned, self.number, cleared=True)
        run = self.trace.run
        device = run.device.model or run.device.abi or "device"
        labels = [
            label for label in (lowering_label(run.lowering), device, self.analysis.status) if label
        ]
        title = f"toolkit {self.analysis.title}"
        process = encode.process_track(self.process, self.number, title, labels)
        yield encode.packet(process, self.number)
        yield from self._whole()
        yield from self._steps()
        yield from self._phases()
        yield from self._memory()
        yield from self._traffic()
        yield from self._samples()
        yield from self._learning()
        yield from self._remarks()

    # Names and tracks

    def _name(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names) + 1)

    def _name_phases(self) -> None:
        for name in ("run", "step", "evaluation"):
            self._name(name)
        phases = self.trace.phases
        pairs = np.unique(np.stack([phases["phase"], phases["layer"]], axis=1), axis=0)
        for phase, layer in pairs.tolist():
            self._name(_phase_name(phase, layer))

    def _track(self) -> int:
        self.uuid += 1
        return self.uuid

    def _slices(self, name: str) -> tuple[int, bytes]:
        track = self._track()
        content = encode.slice_track(track, self.process, name)
        return track, encode.packet(content, self.number)

    def _counter(self, name: str, unit: int, unit_name: str = "") -> tuple[int, bytes]:
        track = self._track()
        content = encode.counter_track(track, self.process, name, unit, unit_name)
        return track, encode.packet(content, self.number)

    # Slices

    def _whole(self) -> Iterator[bytes]:
        run = self.trace.run
        facts = {
            "model": run.model,
            "lowering": lowering_label(run.lowering),
            "toolkit": run.toolkit,
            "status": self.analysis.status,
            "time_unix": run.time_unix,
            **{f"device.{k}": v for k, v in asdict(run.device).items()},
            **{f"bundle.{k}": v for k, v in asdict(run.bundle).items()},
            **{f"settings.{k}": v for k, v in run.settings.items()},
        }
        known = ((name, value) for name, value in facts.items() if value is not None)
        arguments = b"".join(encode.annotation(name, value) for name, value in known)
        track, packet = self._slices("run")
        yield packet
        yield from self._slice(track, self._name("run"), 0, last_time(self.trace), arguments)

    def _slice(
        self, track: int, name: int, begin: int, end: int, arguments: bytes = b""
    ) -> Iterator[bytes]:
        yield self.events.event(encode.SLICE_BEGIN, track, begin, name, arguments)
        yield self.events.event(encode.SLICE_END, track, end)

    def _steps(self) -> Iterator[bytes]:
        steps = self.trace.steps
        track, packet = self._slices("steps")
        yield packet
        name = self._name("step")
        for step, t, seconds, loss, rate, tokens, peak in zip(
            *(steps[c].tolist() for c in ("step", "t", "seconds", "loss", "lr", "tokens", "peak")),
            strict=True,
        ):
            arguments = encode.annotation("step", int(step)) + encode.annotation(
                "peak_bytes", int(peak) * KIB
            )
            arguments += encode.annotation("tokens", int(tokens))
            for key, value in (("loss", loss), ("lr", rate)):
                if isfinite(value):
                    arguments += encode.annotation(key, value)
            length = int(seconds * 1e9) if isfinite(seconds) else 0
            begin = max(int(t) - length, 0)
            yield from self._slice(track, name, begin, int(t), arguments)

    def _phases(self) -> Iterator[bytes]:
        phases = self.trace.phases
        track, packet = self._slices("phases")
        yield packet
        columns = ("phase", "layer", "begin", "end", "step", "operators", "operators_at")
        for phase, layer, begin, end, step, operators, at in zip(
            *(phases[c].tolist() for c in columns), strict=True
        ):
            name = self.names[_phase_name(phase, layer)]
            arguments = b"" if step == NONE else encode.annotation("step", step)
            if operators != NO_OPERATORS:
                arguments += self._operators(operators, at)
            yield from self._slice(track, name, begin, end, arguments)

    def _operators(self, operators: int, at: int) -> bytes:
        codes = self.trace.operators.lists[operators]
        times = self.trace.operators.values[at : at + len(codes), 1].tolist()
        return b"".join(
            encode.interned_annotation(code + 1, ns) for code, ns in zip(codes, times, strict=True)
        )

    # Counters

    def _values(
        self, name: str, unit: int, t: NDArray[np.int64], values: NDArray[np.int64]
    ) -> Iterator[bytes]:
        """Yield a counter of whole numbers where it changes, nothing when it is always zero."""
        if not len(values) or not values.any():
            return
        track, packet = self._counter(name, unit)
        yield packet
        changed = np.flatnonzero(np.append(True, np.diff(values) != 0))
        for at, value in zip(t[changed].tolist(), values[changed].tolist(), strict=True):
            yield self.events.count(track, at, value)

    def _memory(self) -> Iterator[bytes]:
        phases = self.trace.phases
        begin = phases["begin"]
        yield from self._peaks()
        for name in CATEGORIES:
            values = phases[f"ledger_{name}"]
            yield from self._values(f"ledger: {LABELS[name]}", UNIT_BYTES, begin, values)
        for column, label in _RESIDENT.items():
            at_end = phases[column] * KIB
            yield from self._values(f"{label}, phase end", UNIT_BYTES, phases["end"], at_end)

    def _peaks(self) -> Iterator[bytes]:
        """Yield the high-water mark, with the peak of the run where only other records had it."""
        phases, steps, peak = self.trace.phases, self.trace.steps, self.analysis.peak
        if len(phases):
            t, values = phases["begin"], phases["hwm"] * KIB
        else:
            t, values = steps["t"].astype(np.int64), steps["peak"].astype(np.int64) * KIB
        if peak is not None and peak.bytes > values.max(initial=0):
            seconds = last_time(self.trace) / 1e9 if peak.seconds is None else peak.seconds
            t, values = np.append(t, int(seconds * 1e9)), np.append(values, peak.bytes)
            order = np.argsort(t, kind="stable")
            t, values = t[order], values[order]
        yield from self._values(PEAK_COUNTER, UNIT_BYTES, t, values)

    def _traffic(self) -> Iterator[bytes]:
        phases = self.trace.phases
        for column, (name, unit) in _SUMS.items():
            sums = np.cumsum(phases[column], dtype=np.float64)
            total = np.minimum(sums, 2.0**62).astype(np.int64)
            yield from self._values(f"{name}, total", unit, phases["end"], total)

    def _samples(self) -> Iterator[bytes]:
        samples = self.trace.samples
        t = samples["t"].astype(np.int64)
        resident = resident_of_samples(self.trace).astype(np.int64)
        yield from self._values("resident, sampled", UNIT_BYTES, t, resident)
        for column, name, unit in (
            ("celsius", "hottest zone", "°C"),
            ("battery_celsius", "battery temperature", "°C"),
            ("battery_level", "battery level", "%"),
        ):
            yield from self._numbers(name, unit, t, samples[column])

    def _learning(self) -> Iterator[bytes]:
        steps = self.trace.steps
        t = steps["t"].astype(np.int64)
        for column, name in (("loss", "loss"), ("lr", "learning rate")):
            yield from self._numbers(name, "", t, steps[column])

    def _numbers(
        self, name: str, unit: str, t: NDArray[np.int64], values: NDArray[np.float64]
    ) -> Iterator[bytes]:
        finite = np.isfinite(values)
        if not finite.any():
            return
        track, packet = self._counter(name, UNIT_COUNT, unit)
        yield packet
        for at, value in zip(t[finite].tolist(), values[finite].tolist(), strict=True):
            yield self.events.measure(track, at, value)

    def _remarks(self) -> Iterator[bytes]:
        if not self.trace.events:
            return
        track, packet = self._slices("events")
        yield packet
        for event in self.trace.events:
            named = encode.text(23, event.event)
            if event.detail is not None:
                named += encode.annotation("detail", event.detail)
            yield self.events.event(encode.INSTANT, track, event.t, more=named)


def _phase_name(phase: int, layer: int) -> str:
    return PHASES[phase] if layer == NONE else f"{PHASES[phase]} {layer}"
