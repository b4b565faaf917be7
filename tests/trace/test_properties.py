"""Whatever a trace holds: an analysis that adds up and a whole report, or a ToolkitError."""

import io
import json
import random
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.trace.synthetic import Recipe, records, to_line
from tests.trace.test_report import Page
from toolkit.errors import ToolkitError
from toolkit.trace.analysis import Analysis, read_analysis
from toolkit.trace.comparison import compare_runs
from toolkit.trace.comparison_summary import print_comparison
from toolkit.trace.narrative import headline
from toolkit.trace.perfetto import write_perfetto
from toolkit.trace.report import render_report
from toolkit.trace.summary import print_overview, print_summary

LINES = [to_line(r) for r in records(Recipe(steps=26, layers=2, phone=True))]
PARSED = [json.loads(line) for line in LINES]
KINDS = list({(record["type"], record.get("phase")): record for record in PARSED}.values())

numbers = st.one_of(
    st.integers(-1, 5),
    st.sampled_from([2**40, 2**50, 2**55, 2**63, 2**64, 10**30, 1 << 12, 4095]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def survives(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl"
        path.write_bytes(content)
        try:
            analysis = read_analysis(path)
        except ToolkitError as error:
            assert "trace" in str(error) or "run record" in str(error)
            return
        json.dumps(analysis.to_json(), allow_nan=False)
        adds_up(analysis)
        page = Page(render_report(analysis))  # tags nest
        plain = page.text.replace("\N{NO-BREAK SPACE}", " ")
        assert " ".join(headline(analysis).split()) in plain
        console = Console(width=100, color_system=None, file=io.StringIO())
        print_summary(console, analysis)
        print_overview(console, [analysis, analysis])
        comparison = compare_runs(analysis, analysis)
        json.dumps(comparison.to_json(), allow_nan=False)
        print_comparison(console, comparison)
        write_perfetto([analysis], Path(folder) / "out.pftrace").unlink()
        assert [p.name for p in Path(folder).iterdir()] == ["trace.jsonl"]


def adds_up(analysis: Analysis) -> None:
    """Check figures against each other that come from different parts of the trace."""
    trace, timing, peak = analysis.trace, analysis.timing, analysis.peak
    assert trace.left_out.lines <= trace.lines
    assert timing.steps == len(trace.steps)
    if len(trace.phases) and trace.phases["hwm"].any():
        assert peak.bytes >= int(trace.phases["hwm"].max()) * 1024
    if peak is not None and peak.parts:
        assert sum(part.bytes for part in peak.parts) >= peak.bytes * (1 - 1e-6)
    assert all(phase.seconds >= 0 and phase.share >= 0 for phase in timing.phases)
    losses = trace.steps["loss"][np.isfinite(trace.steps["loss"])]
    assert analysis.training.missing_losses == len(trace.steps) - len(losses)
    if len(losses):
        assert analysis.training.lowest_loss == losses.min()


@quick
@given(st.binary(max_size=2000))
def test_bytes(content: bytes) -> None:
    survives(content)
    survives(LINES[0] + content)


@quick
@given(st.data())
def test_shuffled_repeated_cut_and_broken_lines(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(LINES), max_size=60))
    chosen.insert(data.draw(st.integers(0, len(chosen))), LINES[0])
    content = bytearray(b"".join(chosen))
    generator = random.Random(data.draw(st.integers(0, 2**32)))
    for _ in range(data.draw(st.integers(0, 12))):
        position = generator.randrange(len(content))
        match generator.randrange(4):
            case 0:
                content[position] = generator.randrange(256)
            case 1:
                del content[position : position + generator.randrange(200)]
            case 2:
                content[position:position] = content[:: generator.randrange(1, 99)][:50]
            case _:
                content[position:position] = generator.choice([b"\n", b"NaN", b"1e999", b'"', b"-"])
        content = content or bytearray(b"x")
    survives(bytes(content))


@quick
@given(st.data())
def test_any_value_in_any_field(data: st.DataObject) -> None:
    lines = [LINES[0]]
    for _ in range(data.draw(st.integers(1, 12))):
        record = json.loads(json.dumps(data.draw(st.sampled_from(KINDS))))
        for _ in range(data.draw(st.integers(1, 4))):
            place = record
            while nested := [v for v in place.values() if isinstance(v, dict) and v]:
                if not data.draw(st.booleans()):
                    break
                place = data.draw(st.sampled_from(nested))
            place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)
        lines.append(json.dumps(record).encode() + b"\n")
    survives(b"".join(lines))


@quick
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2**40, 2**54]),
            st.sampled_from([0, 1, 2**54, 2**55]),
            st.sampled_from([0, 1, 2**20, 2**40]),
            st.sampled_from([None, 0, 1, 4095]),
            st.sampled_from([0, 1, 2**50]),
        ),
        max_size=30,
    ),
    st.booleans(),
)
def test_extreme_numbers_that_are_allowed(rows: list[tuple], reset: bool) -> None:
    run = json.loads(LINES[0])
    run["device"]["hwm_reset"] = reset
    lines = [to_line(run)]
    for begin, end, hwm, layer, size in rows:
        phase = json.loads(json.dumps(next(r for r in PARSED if r["type"] == "phase")))
        phase |= {"begin": begin, "end": end, "layer": layer, "step": begin % 7, "phase": "forward"}
        phase["mem"]["hwm"] = hwm
        phase["ledger"] = dict.fromkeys(phase["ledger"], size)
        phase["io"] = dict.fromkeys(phase["io"], size)
        lines.append(to_line(phase))
        step = next(r for r in PARSED if r["type"] == "step") | {"step": size, "t": end}
        lines.append(to_line(step | {"loss": float(hwm) * 1e17, "lr": 1e-30, "seconds": 1e9}))
    survives(b"".join(lines))
