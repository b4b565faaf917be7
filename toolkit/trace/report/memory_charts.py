"""Charts of memory: the whole run, and the step with the peak phase by phase."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.trace.analysis import Analysis
from toolkit.trace.analysis.memory import LABELS, place_of, resident_of_samples
from toolkit.trace.analysis.timing import last_time
from toolkit.trace.report import charts
from toolkit.trace.report.charts import Chart, Key, Marker, Shape
from toolkit.trace.report.downsample import arg_highest, column_starts
from toolkit.trace.report.scale import Scale, size_scale, time_scale
from toolkit.trace.schema import CATEGORIES, PHASES
from toolkit.trace.trace import Trace
from toolkit.trace.units import KIB, count, duration, megabytes, number

COLUMNS = 480
_FEW_STEPS = 8
_HEADROOM = 1.12


def bytes_scale(highest_value: float, wanted: int = 4) -> Scale:
    """Return an axis from zero with labels in one unit."""
    top = max(highest_value, 1.0)
    sizes = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
    unit, name = next((size, name) for size, name in sizes if top >= size)
    return size_scale(
        top, lambda v: f"{number(v / unit)} {name}" if v else "0", wanted=wanted, unit=unit
    )


def memory_over_time(analysis: Analysis) -> Chart | None:
    """Return memory by category over the whole run; without phases, what samples and steps say."""
    trace = analysis.trace
    seconds = last_time(trace) / 1e9
    if not len(trace.phases):
        return _sampled_memory(analysis, seconds)
    rows = np.arange(len(trace.phases))
    x = time_scale(seconds)
    new_step = np.flatnonzero(np.append(True, np.diff(trace.phases["step"]) != 0))
    by_step = _FEW_STEPS < len(new_step) <= COLUMNS
    chart = _stacked(trace, rows, x, 0, "memory", new_step if by_step else None)
    chart.title = "Memory over the run"
    if len(trace.phases) > COLUMNS:
        column = "step" if by_step else "column"
        chart.note = f"Each {column} at its highest moment; the line across is its lowest."
    _mark_peak(chart, analysis, 0)
    return chart


def memory_of_peak_step(analysis: Analysis) -> Chart | None:
    """Return memory by category within the step that holds the peak."""
    trace, peak = analysis.trace, analysis.peak
    if peak is None or peak.row is None:
        return None
    rows = _rows_of_step(trace, peak.row)
    if len(rows) < 2:
        return None
    origin = int(trace.phases["begin"][rows[0]])
    seconds = (int(trace.phases["end"][rows].max()) - origin) / 1e9
    chart = _stacked(trace, rows, time_scale(seconds), origin, "peak-step")
    step = peak.place.step
    chart.title = f"Inside step {count(step)}, where the peak is" if step else "Around the peak"
    _mark_peak(chart, analysis, origin)
    _add_lane(chart, trace, rows, origin)
    return chart


def _rows_of_step(trace: Trace, row: int) -> NDArray[np.int64]:
    """Return the rows of one step around `row`: a resumed run may have done that step twice."""
    same = trace.phases["step"] == trace.phases["step"][row]
    breaks = np.flatnonzero(~same)
    position = np.searchsorted(breaks, row)
    first = breaks[position - 1] + 1 if position else 0
    last = breaks[position] if position < len(breaks) else len(same)
    return np.arange(first, last)


def _stacked(
    trace: Trace,
    rows: NDArray[np.int64],
    x: Scale,
    origin: int,
    key: str,
    starts: NDArray[np.int64] | None = None,
) -> Chart:
    """Return the ledger of `rows` over time; `starts` are the rows at which columns begin."""
    phases = trace.phases
    begin = (phases["begin"][rows] - origin) / 1e9
    hwm = phases["hwm"][rows] * float(KIB)
    reset = trace.run.device.hwm_reset is not False
    ledger = phases.block(f"ledger_{CATEGORIES[0]}", f"ledger_{CATEGORIES[-1]}")
    total = ledger[rows].sum(axis=1, dtype=np.float64)
    # Without a reset the high-water mark of a phase is the run's so far: then the ledger leads.
    height_of = np.maximum(hwm, total) if reset else total
    if starts is None:
        starts = column_starts(begin, x.low, x.high, COLUMNS)
    kept = arg_highest(height_of, starts)
    chosen = rows[kept]
    last = float((phases["end"][rows] - origin).max()) / 1e9
    columns = (begin[starts], np.append(begin[starts[1:]], last))
    layers = ledger[chosen].astype(np.float64)
    rest = np.maximum(hwm[kept] - total[kept], 0.0) if reset else np.zeros(len(kept))
    top = float(max(height_of.max(initial=0.0), hwm.max(initial=0.0)))
    y = bytes_scale(top * _HEADROOM)
    chart = Chart(key=key, title="", height=300, x=x, y=y, words="")
    names = [name for i, name in enumerate(CATEGORIES) if layers[:, i].any()]
    values = [layers[:, CATEGORIES.index(name)] for name in names]
    if rest.any():
        names, values = [*names, "unexplained"], [*values, rest]
    chart.words = f"Stacked memory by category, at most {megabytes(top)}."
    _stack(chart, columns, names, values)
    scales = (x, y)
    if reset and len(rows) > len(kept):
        lowest = np.minimum.reduceat(height_of, starts)
        path = charts.line_path((columns[0] + columns[1]) / 2, lowest, scales, chart.height)
        # In the color of the paper around it, so that it is seen on every category.
        chart.shapes += [Shape("halo", "paper", path), Shape("line", "ink", path)]
        chart.legend.append(Key("lowest", "ink", "line"))
    if not reset:
        path = charts.line_path(begin[kept], hwm[kept], scales, chart.height)
        chart.shapes.append(Shape("line", "ink", path))
        chart.legend.append(Key("running maximum (VmHWM)", "ink", "line"))
    chart.hover = _hover(trace, chosen, columns, x, names, values, hwm[kept])
    return chart


def _stack(
    chart: Chart, columns: tuple[np.ndarray, np.ndarray], names: list[str], values: list[np.ndarray]
) -> None:
    """Add the areas, the sum of all first: each later one is painted over the ones before."""
    if not values:
        return
    sums = np.cumsum(values, axis=0)
    for name, top in reversed(list(zip(names, sums, strict=True))):
        path = charts.stepped_area(*columns, top, (chart.x, chart.y), chart.height)
        chart.shapes.append(Shape("area", name, path))
    chart.legend = [Key(LABELS[name], name) for name in reversed(names)]


def _hover(
    trace: Trace,
    chosen: NDArray[np.int64],
    columns: tuple[np.ndarray, np.ndarray],
    x: Scale,
    names: list[str],
    values: list[np.ndarray],
    hwm: np.ndarray,
) -> dict[str, Any]:
    seconds = (columns[0] + columns[1]) / 2

    def label(i: int) -> str:
        place = str(place_of(trace, int(chosen[i])))
        return f"{duration(float(columns[0][i]))}: {place.removeprefix('at ')}"

    stack = [
        charts.series(LABELS[name], name, "bytes", value)
        for name, value in reversed(list(zip(names, values, strict=True)))
    ]
    return {
        "x": charts.positions(seconds, x),
        "label": charts.hover_rows(len(chosen), label),
        "series": [charts.series("peak of the phase", "ink", "bytes", hwm), *stack],
    }


def _mark_peak(chart: Chart, analysis: Analysis, origin: int) -> None:
    peak = analysis.peak
    if peak is None or peak.row is None:
        return
    phases = analysis.trace.phases
    middle = (int(phases["begin"][peak.row]) + int(phases["end"][peak.row])) / 2 - origin
    x, y = chart.x(middle / 1e9), chart.y(peak.bytes)
    chart.markers.append(Marker(round(x, 2), round(y, 2), f"Peak {megabytes(peak.bytes)}"))


def _add_lane(chart: Chart, trace: Trace, rows: NDArray[np.int64], origin: int) -> None:
    phases = trace.phases
    rows = rows[: 8 * COLUMNS]
    begin, end = ((phases[name][rows] - origin) / 1e9 for name in ("begin", "end"))
    for code in np.unique(phases["phase"][rows]):
        mine = phases["phase"][rows] == code
        color = f"phase-{PHASES[code]}"
        path = charts.spans(begin[mine], end[mine], chart.x, 10)
        chart.lane.append(Shape("fill", color, path))
    order = dict.fromkeys(PHASES[code] for code in phases["phase"][rows].tolist())
    chart.lane_legend = [Key(name, f"phase-{name}") for name in order]


def _sampled_memory(analysis: Analysis, seconds: float) -> Chart | None:
    trace = analysis.trace
    lines = []
    if len(trace.samples):
        resident = resident_of_samples(trace)
        lines.append(("resident, sampled", "base", trace.samples["t"] / 1e9, resident))
    if len(trace.steps) and trace.steps["peak"].any():
        peaks = trace.steps["peak"] * KIB
        lines.append(("peak of the step", "ink", trace.steps["t"] / 1e9, peaks))
    if not lines or analysis.peak is None:
        return None
    x, y = time_scale(seconds), bytes_scale(analysis.peak.bytes * _HEADROOM)
    chart = Chart("memory", "Memory over the run", 300, x, y, "Resident memory over time.")
    for label, color, at, values in lines:
        path = charts.line_path(at, values, (x, y), chart.height)
        chart.shapes.append(Shape("line", color, path))
        chart.legend.append(Key(label, color, "line"))
    return chart
