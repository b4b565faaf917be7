"""Downsampling keeps every extreme; axes are round; paths stay inside of the plot."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from toolkit.trace.report import charts
from toolkit.trace.report.downsample import arg_highest, column_starts, extremes
from toolkit.trace.report.scale import Scale, round_step, step_scale, time_scale, value_scale
from toolkit.trace.units import UNKNOWN, duration, megabytes, number, percent, unbroken

finite = st.floats(-1e50, 1e50)


@given(arrays(float, st.integers(1, 400), elements=finite), st.integers(1, 40))
def test_downsampling_keeps_the_extremes_of_every_column(y: np.ndarray, columns: int) -> None:
    x = np.arange(len(y), dtype=float)
    kept = extremes(x, y, 0, len(y) - 1, columns)
    assert len(kept) <= max(2 * columns, len(y) if len(y) <= 2 * columns else 0)
    assert (np.diff(kept) > 0).all()
    starts = column_starts(x, 0, len(y) - 1, columns)
    for first, last in zip(starts, [*starts[1:], len(y)], strict=True):
        mine = kept[(kept >= first) & (kept < last)]
        assert y[mine].max() == y[first:last].max()
        assert y[mine].min() == y[first:last].min()
    highest = arg_highest(y, starts)
    assert len(highest) == len(starts)
    np.testing.assert_array_equal(y[highest], np.maximum.reduceat(y, starts))


@given(finite, finite)
def test_value_axis_covers_its_values(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    scale = value_scale(low, high, str)
    rounding = 1e-9 * (high - low)
    assert scale.low <= low + rounding and high - rounding <= scale.high
    assert scale.low < scale.high
    assert 2 <= len(scale.ticks) <= 14


@given(st.floats(0, 1e9))
def test_time_axis(seconds: float) -> None:
    scale = time_scale(seconds)
    assert 1 <= len(scale.ticks) <= 14
    assert all(0 <= tick.at <= 100.01 for tick in scale.ticks)


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_step_axis(a: int, b: int) -> None:
    scale = step_scale(min(a, b), max(a, b))
    assert 1 <= len(scale.ticks) <= 14
    assert all(-0.01 <= tick.at <= 100.01 for tick in scale.ticks)
    assert len({tick.label for tick in scale.ticks}) == len(scale.ticks)


@pytest.mark.parametrize(
    ("span", "wanted", "step"), [(100, 4, 25), (87, 4, 25), (1, 4, 0.25), (9, 4, 2.5), (41, 4, 20)]
)
def test_round_steps(span: float, wanted: int, step: float) -> None:
    assert round_step(span, wanted) == pytest.approx(step)


def test_line_breaks_where_values_are_missing() -> None:
    scales = (Scale(0, 4, []), Scale(0, 10, []))
    y = np.array([0, 10, np.nan, 5, np.nan])
    path = charts.line_path(np.arange(5.0), y, scales, 100)
    assert path == "M0 100L250 0M750 50h0"


def test_stepped_area_touches_every_height() -> None:
    scales = (Scale(0, 10, []), Scale(0, 100, []))
    begin, end = np.array([0.0, 5.0, 8.0]), np.array([5.0, 7.0, 10.0])
    path = charts.stepped_area(begin, end, np.array([50.0, 100.0, 25.0]), scales, 200)
    assert path == "M0 200V100H500V0H700V200H800V150H1000V200Z"


@given(arrays(float, 50, elements=st.floats(0, 100)))
def test_paths_stay_inside(y: np.ndarray) -> None:
    scales = (Scale(0, 49, []), Scale(0, 100, []))
    path = charts.line_path(np.arange(50.0), y, scales, 300)
    points = [tuple(map(float, p.split())) for p in re.split("[ML]", path.removesuffix("h0"))[1:]]
    assert all(0 <= x <= 1000 and 0 <= y <= 300 for x, y in points)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "2 kB"), (61_234_000, "61.2 MB"), (99_960_000, "100 MB"),
     (136_200_000, "136 MB"), (999_600_000, "1.00 GB"), (25_276_510_208, "25.3 GB"),
     (None, UNKNOWN), (float("nan"), UNKNOWN)],
)  # fmt: skip
def test_megabytes(value: float | None, text: str) -> None:
    assert megabytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0000123, "12 µs"), (0.0123, "12.3 ms"), (0.9999, "1.00 s"), (0.82, "820 ms"),
     (12.34, "12.3 s"), (125, "2 min 05 s"), (8040, "2 h 14 min"), (None, UNKNOWN)],
)  # fmt: skip
def test_duration(value: float | None, text: str) -> None:
    assert duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 %"), (0.41, "41 %"), (0.066, "6.6 %"), (0.03, "3.0 %"), (0.0003, "< 0.1 %"),
     (1, "100 %")],
)  # fmt: skip
def test_percent(value: float, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (2.25, "2.25"), (3.63125, "3.631"), (1e-4, "1e-4"), (2.5e-5, "2.5e-5"),
     (123456, "123,456"), (-1.5, "-1.5"), (3e9, "3e9"), (1e30, "1e30"), (1050.3, "1050"),
     (9999.96, "10,000")],
)  # fmt: skip
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_units_do_not_break_off() -> None:
    text = "Peak 61.2 MB at step 12, 41 % adapters, 43 °C, 2 min 05 s"
    assert unbroken(text).replace("\N{NO-BREAK SPACE}", "_") == (
        "Peak 61.2_MB at step_12, 41_% adapters, 43_°C, 2_min 05_s"
    )
