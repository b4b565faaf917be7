"""Read a trace line by line, whatever state it is in.

A trace comes from a device that may have been killed, and the file is untrusted. Lines that cannot
be read are listed with their numbers and left out; only a missing file, a missing run record or
another version are errors. Memory is bounded by the row limits below, whatever the file holds.
"""

from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec.structs import astuple

from toolkit.errors import ToolkitError
from toolkit.trace import schema
from toolkit.trace.cleaning import clean_end, clean_event, clean_run, clean_smaps
from toolkit.trace.location import find_trace
from toolkit.trace.operators import NO_OPERATORS, OperatorBuilder
from toolkit.trace.schema import PHASES, Begin, End, Evaluation, Event, Phase, Run, Sample, Smaps
from toolkit.trace.schema import Step as StepRecord
from toolkit.trace.table import TableBuilder
from toolkit.trace.text import clean
from toolkit.trace.tidy import last_of_each_step, ordered_phases, ordered_samples
from toolkit.trace.trace import (
    NONE,
    PHASE_COLUMNS,
    SAMPLE_COLUMNS,
    STEP_COLUMNS,
    LeftOut,
    Problem,
    Session,
    Trace,
)

_MAX_LINE = 4 << 20
_MAX_PHASES = 4_000_000
_MAX_ROWS = 1_000_000
_MAX_RECORDS = 10_000
_MAX_PROBLEMS = 100
_MAX_OFFSET = 1 << 60
_PHASE_CODE = {name: code for code, name in enumerate(PHASES)}


class _AnyRun(msgspec.Struct):
    """Just enough of a record to know a run record of any version."""

    type: str
    version: msgspec.Raw = msgspec.Raw(b"null")


def read_trace(run: str | Path) -> Trace:
    """Read the trace of a run directory or file.

    Raises:
        ToolkitError: There is no such file, it cannot be read, it holds no run record, or one of
            another version.
    """
    path = find_trace(run)
    reader = _Reader(path)
    try:
        with path.open("rb", buffering=1 << 20) as file:
            reader.read(file)
    except OSError as error:
        raise ToolkitError(f"cannot read {path}: {error.strerror or error}") from error
    return reader.trace()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._line = 0
        self._offset = 0
        self._latest = 0
        self._sessions: list[Session] = []
        self._phases = TableBuilder(PHASE_COLUMNS, "q", _MAX_PHASES)
        self._operators = OperatorBuilder()
        self._steps = TableBuilder(STEP_COLUMNS, "d", _MAX_ROWS)
        self._samples = TableBuilder(SAMPLE_COLUMNS, "d", _MAX_ROWS)
        self._evaluations: list[Evaluation] = []
        self._events: list[Event] = []
        self._smaps: list[Smaps] = []
        self._end: End | None = None
        self._last_begin: Begin | None = None
        self._left_out = LeftOut()
        self._first_run_error = ""
        self._any_run = msgspec.json.Decoder(_AnyRun)
        self._add: dict[Any, Callable[[Any], None]] = {
            Run: self._add_run,
            StepRecord: self._add_step,
            Sample: self._add_sample,
            Begin: self._add_begin,
            Evaluation: self._add_evaluation,
            Smaps: self._add_smaps,
            Event: self._add_event,
            End: self._add_end,
        }

    def read(self, file: IO[bytes]) -> None:
        decode = msgspec.json.Decoder(schema.Record).decode
        add_phase = self._add_phase
        add = self._add
        while raw := file.readline(_MAX_LINE):
            self._line += 1
            if not raw.endswith(b"\n") and len(raw) == _MAX_LINE:
                self._skip_line(file)
                continue
            try:
                record = decode(raw)
                if not raw.isascii():
                    raw.decode()  # the decoder does not look into names that it does not know
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                self._unreadable(raw, error)
                continue
            if type(record) is Phase:
                add_phase(record)
            else:
                add[type(record)](record)

    def trace(self) -> Trace:
        if not self._sessions:
            reason = self._first_run_error or f"none in its {self._line} lines"
            raise ToolkitError(
                f"{self._path} has no run record: {reason}",
                "It is not a trace of this toolkit, or its beginning is lost",
            )
        left_out = self._left_out
        phases = ordered_phases(self._phases.build(), left_out)
        steps = last_of_each_step(self._steps.build(), left_out)
        samples = ordered_samples(self._samples.build())
        left_out.over_limit += self._operators.dropped
        left_out.over_limit += self._phases.dropped + self._steps.dropped + self._samples.dropped
        return Trace(
            path=self._path,
            sessions=self._sessions,
            phases=phases,
            operators=self._operators.build(),
            steps=steps,
            samples=samples,
            evaluations=self._evaluations,
            events=self._events,
            smaps=self._smaps,
            end=self._end,
            last_begin=self._last_begin,
            left_out=left_out,
            lines=self._line,
        )

    # Lines that cannot be read

    def _problem(self, reason: str) -> None:
        self._left_out.lines += 1
        if len(self._left_out.problems) < _MAX_PROBLEMS:
            self._left_out.problems.append(Problem(self._line, clean(reason)))

    def _skip_line(self, file: IO[bytes]) -> None:
        self._problem(f"longer than {_MAX_LINE >> 20} MiB")
        while (raw := file.readline(_MAX_LINE)) and not raw.endswith(b"\n"):
            pass

    def _unreadable(self, raw: bytes, error: Exception) -> None:
        if not raw.strip():
            return
        if not raw.endswith(b"\n"):
            self._left_out.truncated_line = self._line
            return
        if run_error := self._check_version(raw, error):
            self._first_run_error = self._first_run_error or run_error
        kind = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        self._problem(kind)

    def _check_version(self, raw: bytes, error: Exception) -> str:
        """Say what is wrong with a run record; another version's is an error at once."""
        try:
            record = self._any_run.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""
        if record.type != "run":
            return ""
        version = bytes(record.version)
        if version != str(schema.VERSION).encode():
            self._refuse_version(version.decode(errors="replace"))
        return f"the one in line {self._line} is not valid ({clean(str(error))})"

    def _refuse_version(self, version: str) -> None:
        raise ToolkitError(
            f"line {self._line} of {self._path} says trace version {clean(version, 20)}, "
            f"this toolkit reads version {schema.VERSION}",
            "Analyze it with the toolkit that wrote it, or train again with this one",
        )

    # One method per record

    def _time(self, t: int) -> int:
        """Return `t` on the time line of all sessions, ns."""
        t += self._offset
        if t > self._latest:
            self._latest = t
        return t

    def _add_phase(self, record: Phase) -> None:
        offset = self._offset
        begin, end = record.begin + offset, record.end + offset
        if end < begin:
            self._problem("phase ends before it begins")
            return
        if end > self._latest:
            self._latest = end
        step, layer = record.step, record.layer
        operators, at = NO_OPERATORS, 0
        if record.operators:
            operators, at = self._operators.add(record.operators)
        self._phases.append(
            (
                self._line,
                operators,
                at,
                NONE if step is None else step,
                _PHASE_CODE[record.phase],
                NONE if layer is None else layer,
                begin,
                end,
                *astuple(record.mem),
                *astuple(record.io),
                *astuple(record.ledger),
            )
        )

    def _add_run(self, record: Run) -> None:
        if record.version != schema.VERSION:
            self._refuse_version(str(record.version))
        record = clean_run(record)
        if any(session.run == record for session in self._sessions):
            self._left_out.duplicates += 1
            return
        if len(self._sessions) >= _MAX_RECORDS:
            self._left_out.over_limit += 1
            return
        self._offset = min(self._latest, _MAX_OFFSET) if self._sessions else 0
        self._sessions.append(Session(record, self._line, self._offset))
        self._end = None

    def _add_step(self, record: StepRecord) -> None:
        self._steps.append(
            (
                self._line,
                record.step,
                self._time(record.t),
                nan if record.seconds is None else record.seconds,
                nan if record.loss is None else record.loss,
                nan if record.lr is None else record.lr,
                record.tokens,
                nan if record.grad_norm is None else record.grad_norm,
                record.peak,
                record.written_bytes,
                nan if record.spilled_bytes is None else record.spilled_bytes,
                record.state_bytes,
            )
        )

    def _add_sample(self, record: Sample) -> None:
        battery = record.battery or schema.Battery()
        zones = (zone.celsius for zone in record.thermal or ())
        hottest = max((celsius for celsius in zones if celsius is not None), default=nan)
        readings = (record.pss, battery.level, battery.temperature, battery.charging, hottest)
        self._samples.append(
            (
                self._time(record.t),
                *astuple(record.mem),
                *(nan if reading is None else reading for reading in readings),
            )
        )

    def _add_begin(self, record: Begin) -> None:
        self._time(record.t)
        if record.phase == "step":
            self._last_begin = record

    def _add_evaluation(self, record: Evaluation) -> None:
        self._keep(self._evaluations, record)

    def _add_smaps(self, record: Smaps) -> None:
        if len(self._smaps) >= 8:
            self._left_out.over_limit += 1
            return
        self._smaps.append(clean_smaps(record))

    def _add_event(self, record: Event) -> None:
        self._keep(self._events, clean_event(record, self._time(record.t)))

    def _add_end(self, record: End) -> None:
        self._end = clean_end(record, self._time(record.t))

    def _keep(self, records: list[Any], record: Any) -> None:
        if len(records) < _MAX_RECORDS:
            records.append(record)
        else:
            self._left_out.over_limit += 1
