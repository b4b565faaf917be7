"""Charts as data: paths in a plot of 1000 units width that the page stretches to its own.

Drawn here and not by a script in the page, because the page must be readable without JavaScript,
print, and stay small (a charting library weighs as much as the whole report may). The template
sets texts as HTML over the SVG, so that they keep their size when the plot is stretched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from toolkit.trace.report.downsample import extremes
from toolkit.trace.report.scale import Scale

WIDTH = 1000
COLUMNS = 500


@dataclass(frozen=True)
class Shape:
    """One path. `kind` is area, line, thin (a faint line) or fill; `color` names a CSS variable."""

    kind: str
    color: str
    path: str


@dataclass(frozen=True)
class Marker:
    """A point with an optional label, in percent from the left and from the bottom."""

    x: float
    y: float
    label: str = ""
    color: str = "ink"


@dataclass(frozen=True)
class Key:
    """One entry of a legend."""

    label: str
    color: str
    kind: str = "area"
    value: str = ""


@dataclass
class Chart:
    """One chart.

    Attributes:
        hover: What a pointer shows, for the script: `x` in percent [n], `label` [n] and `series`
            with a label, a color, a unit and `values` [n] each.
        lane: Shapes of a strip below the plot.
        words: What the chart shows, for those who do not see it.
    """

    key: str
    title: str
    height: int
    x: Scale
    y: Scale
    words: str
    note: str = ""
    shapes: list[Shape] = field(default_factory=list)
    markers: list[Marker] = field(default_factory=list)
    legend: list[Key] = field(default_factory=list)
    lane: list[Shape] = field(default_factory=list)
    lane_legend: list[Key] = field(default_factory=list)
    hover: dict[str, Any] | None = None


def line_path(x: np.ndarray, y: np.ndarray, scales: tuple[Scale, Scale], height: int) -> str:
    """Return a line through (x, y) that breaks where y is not finite and keeps every extreme."""
    finite = np.flatnonzero(np.isfinite(y))
    if not len(finite):
        return ""
    runs = np.split(finite, np.flatnonzero(np.diff(finite) > 1) + 1)
    parts = []
    for run in runs[:COLUMNS]:
        kept = run[extremes(x[run], y[run], scales[0].low, scales[0].high, COLUMNS)]
        points = _points(x[kept], y[kept], scales, height)
        # A lone point becomes a dot: a line of no length with round ends.
        parts.append("M" + "L".join(points) + ("h0" if len(points) == 1 else ""))
    return "".join(parts)


def stepped_area(
    begin: np.ndarray, end: np.ndarray, top: np.ndarray, scales: tuple[Scale, Scale], height: int
) -> str:
    """Return the outline of adjoining bars from 0 to `top` over [begin, end]."""
    left, right = _across(begin, scales[0]), _across(end, scales[0])
    heights = _down(top, scales[1], height)
    base = f"{height}"
    parts = [f"M{_short(left[0])} {base}"]
    for i in range(len(left)):
        if i and left[i] - right[i - 1] > 0.05:
            parts.append(f"V{base}H{_short(left[i])}")
        parts.append(f"V{_short(heights[i])}H{_short(right[i])}")
    return "".join(parts) + f"V{base}Z"


def bars(
    centers: Sequence[float],
    values: Sequence[float | None],
    width: float,
    scales: tuple[Scale, Scale],
    height: int,
) -> str:
    """Return separate bars from 0 to `values`, `width` in units of x; None has no bar."""
    parts = []
    for center, value in zip(centers, values, strict=True):
        if value is None:
            continue
        left, right = _across(np.array([center - width / 2, center + width / 2]), scales[0])
        top = _down(np.array([value]), scales[1], height)[0]
        parts.append(f"M{_short(left)} {height}V{_short(top)}H{_short(right)}V{height}Z")
    return "".join(parts)


def spans(begin: np.ndarray, end: np.ndarray, x: Scale, height: int) -> str:
    """Return full-height boxes over [begin, end], joined where less than a unit lies between."""
    left, right = _across(begin, x), _across(end, x)
    merged: list[list[float]] = []
    for a, b in zip(left, right, strict=True):
        if merged and a - merged[-1][1] < 1:
            merged[-1][1] = b
        else:
            merged.append([a, b])
    return "".join(f"M{_short(a)} 0H{_short(b)}V{height}H{_short(a)}Z" for a, b in merged)


def series(
    label: str, color: str, unit: str, values: np.ndarray, digits: int = 6
) -> dict[str, Any]:
    """Return one series for `Chart.hover`; values that are not finite become null."""
    rounded: list[float | None] = [
        float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values.tolist()
    ]
    return {"label": label, "color": color, "unit": unit, "values": rounded}


def positions(values: np.ndarray, scale: Scale) -> list[float]:
    """Return positions in percent, rounded for the page."""
    return [round(float(scale(value)), 2) for value in values.tolist()]


def hover_rows(count: int, label: Callable[[int], str]) -> list[str]:
    """Return the label of each of `count` points."""
    return [label(i) for i in range(count)]


def _points(x: np.ndarray, y: np.ndarray, scales: tuple[Scale, Scale], height: int) -> list[str]:
    across, down = _across(x, scales[0]), _down(y, scales[1], height)
    return [f"{_short(a)} {_short(b)}" for a, b in zip(across, down, strict=True)]


def _across(x: np.ndarray, scale: Scale) -> list[float]:
    across: list[float] = ((x - scale.low) * (WIDTH / (scale.high - scale.low))).tolist()
    return across


def _down(y: np.ndarray, scale: Scale, height: int) -> list[float]:
    down: list[float] = (height - (y - scale.low) * (height / (scale.high - scale.low))).tolist()
    return down


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
