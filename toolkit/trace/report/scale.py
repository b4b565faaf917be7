"""Axes: round ticks, and positions in percent of the plot."""

from collections.abc import Callable
from dataclasses import dataclass
from math import floor, isfinite, log10

from toolkit.trace import units

_MAX_TICKS = 12


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, `at` percent from its start."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `high` with its ticks."""

    low: float
    high: float
    ticks: list[Tick]

    def __call__(self, value: float) -> float:
        """Return the position of `value` in percent."""
        return 100.0 * (value - self.low) / (self.high - self.low)


def value_scale(
    low: float, high: float, label: Callable[[float], str], *, wanted: int = 4, unit: float = 1.0
) -> Scale:
    """Return an axis over [low, high], widened to round values of `unit`."""
    step = round_step((high - low) / unit, wanted) * unit
    first, last = floor(low / step), -floor(-high / step)
    if not 0 < last - first <= _MAX_TICKS:  # rounding has nothing to hold on to
        high = high if high > low else low + (abs(low) or 1.0)
        return _scale(low, high, [low, high], label)
    return _scale(first * step, last * step, [i * step for i in range(first, last + 1)], label)


def size_scale(high: float, label: Callable[[float], str], *, wanted: int, unit: float) -> Scale:
    """Return an axis from 0 to `high`, not widened, with ticks at round values of `unit`."""
    step = round_step(high / unit, wanted) * unit
    ticks = [i * step for i in range(min(int(high / step + 1e-9), _MAX_TICKS) + 1)]
    return _scale(0.0, high, ticks, label)


def time_scale(seconds: float, *, wanted: int = 6) -> Scale:
    """Return an axis from 0 to `seconds`, not widened, with ticks in ms, s, min or h."""
    seconds = seconds if seconds >= 1e-9 else 1.0
    units_of_time = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
    size, name = next(
        ((s, n) for s, n in units_of_time if seconds >= (2 if s > 1 else 1) * s), units_of_time[-1]
    )
    step = round_step(seconds / size, wanted) * size
    ticks = [i * step for i in range(min(int(seconds / step + 1e-9), _MAX_TICKS) + 1)]
    return _scale(0.0, seconds, ticks, lambda t: f"{units.number(t / size)} {name}" if t else "0")


def step_scale(first: float, last: float, *, wanted: int = 6) -> Scale:
    """Return an axis over whole numbers from `first` to `last`, not widened."""
    last = last if last > first else first + 1
    step = round_step(last - first, wanted)
    step = float(-floor(-step)) if step < 10 else step
    start = -floor(-first / step)
    ticks = [i * step for i in range(start, start + _MAX_TICKS + 1) if i * step <= last]
    if not ticks or ticks[0] - first > 0.4 * step:
        ticks.insert(0, first)
    return _scale(first, last, ticks, units.count)


def round_step(span: float, wanted: int) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten so that about `wanted` steps make up `span`."""
    if not isfinite(span) or span <= 0:
        return 1.0
    rough = span / wanted
    power = 10.0 ** floor(log10(rough))
    if power <= 0:
        return 1.0
    factor = next(f for f in (1, 2, 2.5, 5, 10) if rough <= f * power * 1.0001)
    return factor * power


def _scale(low: float, high: float, values: list[float], label: Callable[[float], str]) -> Scale:
    span = high - low
    return Scale(low, high, [Tick(100.0 * (v - low) / span, label(v)) for v in values])
