"""Charts of training, speed, layers and the device's state."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.trace.analysis import Analysis
from toolkit.trace.report import charts
from toolkit.trace.report.charts import Chart, Key, Marker, Shape
from toolkit.trace.report.downsample import extremes
from toolkit.trace.report.memory_charts import bytes_scale
from toolkit.trace.report.scale import Scale, Tick, step_scale, time_scale, value_scale
from toolkit.trace.units import count, megabytes, number

_SMALL = 150
_MAX_EVALUATIONS = 200


def loss_curve(analysis: Analysis) -> Chart | None:
    """Return the loss of every step, smoothed, with held-out losses as points."""
    steps = analysis.trace.steps
    held_out = [(e.step, e.loss) for e in analysis.training.evaluations if e.loss is not None]
    values = np.concatenate([steps["loss"], [loss for _, loss in held_out]])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    numbers = np.concatenate([steps["step"], [step for step, _ in held_out]])
    x = step_scale(float(numbers.min()), float(numbers.max()))
    spread = (values.max() - values.min()) * 0.05
    y = value_scale(float(values.min() - spread), float(values.max() + spread), number)
    chart = Chart("loss", "Loss", 260, x, y, "Loss by step.", note="by step")
    smooth = smoothed(steps["loss"])
    for kind, label, line in (
        ("thin", "each step", steps["loss"]),
        ("line", "smoothed", smooth),
    ):
        path = charts.line_path(steps["step"], line, (x, y), chart.height)
        if path:
            chart.shapes.append(Shape(kind, "loss", path))
            chart.legend.append(Key(label, "loss", kind))
    for step, loss in held_out[-_MAX_EVALUATIONS:]:
        chart.markers.append(Marker(round(x(step), 2), round(y(loss), 2), color="held-out"))
    if held_out:
        chart.legend.append(Key("held-out data", "held-out", "dot"))
    _mark_means(chart, analysis)
    chart.hover = _steps_hover(
        steps["step"], x, [("loss", "loss", "", steps["loss"]), ("smoothed", "loss", "", smooth)]
    )
    return chart


def _mark_means(chart: Chart, analysis: Analysis) -> None:
    """Mark the two means that the report's first sentence on the loss compares."""
    steps, training = analysis.trace.steps, analysis.training
    numbers = steps["step"][np.isfinite(steps["loss"])]
    first, last = training.first_loss, training.last_loss
    if first is None or last is None or not 2 <= training.window <= len(numbers) / 2:
        return
    parts = ((numbers[: training.window], first), (numbers[-training.window :], last))
    for part, mean in parts:
        at = (round(chart.x(float(part.mean())), 2), round(chart.y(mean), 2))
        chart.markers.append(Marker(*at, color="loss", label=number(mean)))
    chart.legend.append(Key(f"mean of the first and the last {training.window}", "loss", "dot"))


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the exponential moving average over about a twentieth of the series, unbiased at its
    start; values that are not finite are skipped."""
    keep = 1.0 - 1.0 / max(2.0, len(values) / 20)
    result = np.full(len(values), np.nan)
    total = weight = 0.0
    for i, value in enumerate(values.tolist()):
        if np.isfinite(value):
            total = keep * total + value
            weight = keep * weight + 1.0
            result[i] = total / weight
    return result


def step_charts(analysis: Analysis) -> list[Chart]:
    """Return the small charts by step: learning rate, speed, step time, gradients, flash."""
    steps = analysis.trace.steps
    seconds = steps["seconds"]
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = np.where(seconds > 0, steps["tokens"] / seconds, np.nan)
    written = np.cumsum(steps["written_bytes"] + _saved_by_step(analysis))
    candidates = [
        _by_step(analysis, "lr", "Learning rate", steps["lr"], number),
        _by_step(analysis, "speed", "Tokens per second", speed, count),
        _by_step(analysis, "seconds", "Seconds per step", seconds, number),
        _by_step(analysis, "norm", "Gradient norm", steps["grad_norm"], number),
        _by_step(analysis, "written", "Written to flash in all", written, megabytes, bytes_scale),
    ]
    return [chart for chart in candidates if chart is not None]


def _saved_by_step(analysis: Analysis) -> NDArray[np.float64]:
    """Return what was saved after each step, bytes; steps of older traces count it themselves."""
    numbers = analysis.trace.steps["step"]
    saved = np.zeros(len(numbers))
    for event in analysis.trace.events:
        if event.event == "saved" and event.written_bytes and event.step is not None:
            saved[numbers == event.step] += event.written_bytes
    return saved


def device_charts(analysis: Analysis) -> list[Chart]:
    """Return temperature and battery over time, where the device told."""
    samples = analysis.trace.samples
    if not len(samples):
        return []
    x = time_scale(analysis.timing.seconds, wanted=4)
    candidates = [
        _over_time(
            "celsius",
            "Temperature",
            x,
            samples["t"],
            [
                ("hottest zone", "hot", samples["celsius"]),
                ("battery", "held-out", samples["battery_celsius"]),
            ],
            lambda value: f"{number(value)} °C",
        ),
        _over_time(
            "battery",
            "Battery",
            x,
            samples["t"],
            [("level", "speed", samples["battery_level"])],
            lambda value: f"{number(value)} %",
        ),
    ]
    return [chart for chart in candidates if chart is not None]


def layer_charts(analysis: Analysis) -> list[Chart]:
    """Return time and peak memory by layer, forward beside backward."""
    layers = analysis.timing.layers
    if not layers:
        return []
    numbers = [layer.layer for layer in layers]
    x = step_scale(min(numbers) - 0.5, max(numbers) + 0.5)
    x = Scale(x.low, x.high, _layer_ticks(numbers, x))
    times: dict[str, Sequence[float | None]] = {
        "forward": [layer.forward_seconds for layer in layers],
        "backward": [layer.backward_seconds for layer in layers],
    }
    peaks: dict[str, Sequence[float | None]] = {
        "forward": [layer.forward_peak_bytes for layer in layers],
        "backward": [layer.backward_peak_bytes for layer in layers],
    }
    result = []
    for key, title, values, unit, make_scale in (
        ("layer-time", "Time by layer", times, "seconds", _duration_scale),
        ("layer-memory", "Peak memory by layer", peaks, "bytes", bytes_scale),
    ):
        known = [value for line in values.values() for value in line if value]
        if not known:
            continue
        y = make_scale(max(known) * 1.02)
        chart = Chart(key, title, 200, x, y, f"{title}, forward and backward.")
        chart.note = "median of all steps" if unit == "seconds" else "highest of all steps"
        for offset, (name, line) in zip((-0.2, 0.2), values.items(), strict=True):
            centers = [layer + offset for layer in numbers]
            path = charts.bars(centers, line, 0.36, (x, y), chart.height)
            chart.shapes.append(Shape("fill", f"phase-{name}", path))
            chart.legend.append(Key(name, f"phase-{name}"))
        chart.hover = {
            "x": charts.positions(np.array(numbers, float), x),
            "label": [f"layer {layer}" for layer in numbers],
            "series": [
                charts.series(name, f"phase-{name}", unit, np.array(line, float))
                for name, line in values.items()
            ],
        }
        result.append(chart)
    return result


def _layer_ticks(numbers: list[int], x: Scale) -> list[Tick]:
    wanted = step_scale(min(numbers), max(numbers)).ticks if len(numbers) > 1 else []
    labels = [tick.label for tick in wanted] or [count(numbers[0])]
    values = [float(label.replace(",", "")) for label in labels]
    return [Tick(x(v), t) for v, t in zip(values, labels, strict=True)]


def _duration_scale(highest: float) -> Scale:
    unit, name = (1.0, "s") if highest >= 1 else (1e-3, "ms")
    return value_scale(
        0.0, highest, lambda v: f"{number(v / unit)} {name}" if v else "0", unit=unit
    )


def _by_step(
    analysis: Analysis,
    key: str,
    title: str,
    values: np.ndarray,
    label: Callable[[float], str],
    make_scale: Callable[[float], Scale] | None = None,
) -> Chart | None:
    known = values[np.isfinite(values)]
    if len(known) < 2 or not known.any():
        return None
    numbers = analysis.trace.steps["step"]
    x = step_scale(float(numbers[0]), float(numbers[-1]), wanted=4)
    high = float(known.max()) * 1.02
    y = value_scale(min(0.0, float(known.min())), high, label, wanted=3)
    if make_scale is not None:
        y = make_scale(high)
    chart = Chart(key, title, _SMALL, x, y, f"{title} by step, up to {label(known.max())}.")
    chart.note = "by step"
    path = charts.line_path(numbers, values, (x, y), chart.height)
    chart.shapes.append(Shape("line", key, path))
    chart.hover = _steps_hover(numbers, x, [(title.lower(), key, "", values)])
    return chart


def _over_time(
    key: str,
    title: str,
    x: Scale,
    t: np.ndarray,
    lines: list[tuple[str, str, np.ndarray]],
    label: Callable[[float], str],
) -> Chart | None:
    known = [values[np.isfinite(values)] for _, _, values in lines]
    together = np.concatenate(known)
    if len(together) < 2:
        return None
    low, high = float(together.min()), float(together.max())
    spread = max((high - low) * 0.1, 1.0)
    y = value_scale(low - spread, high + spread, label, wanted=3)
    chart = Chart(key, title, _SMALL, x, y, f"{title} from {label(low)} to {label(high)}.")
    for name, color, values in lines:
        path = charts.line_path(t / 1e9, values, (x, y), chart.height)
        if path:
            chart.shapes.append(Shape("line", color, path))
            chart.legend.append(Key(name, color, "line"))
    return chart


def _steps_hover(
    numbers: np.ndarray, x: Scale, lines: list[tuple[str, str, str, np.ndarray]]
) -> dict[str, Any]:
    values = lines[0][3]
    finite = np.flatnonzero(np.isfinite(values))
    kept = finite[extremes(numbers[finite], values[finite], x.low, x.high, charts.COLUMNS // 2)]
    return {
        "x": charts.positions(numbers[kept], x),
        "label": [f"step {int(number):,}" for number in numbers[kept].tolist()],
        "series": [charts.series(name, color, unit, v[kept]) for name, color, unit, v in lines],
    }
