"""Reduce long series to what a plot can show, without losing an extreme."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def column_starts(x: np.ndarray, low: float, high: float, columns: int) -> Indices:
    """Return the index at which each of `columns` intervals of [low, high] begins.

    Intervals without points are left out; with no more than `columns` points each has its own.

    Args:
        x: Sorted positions [n].
    """
    if len(x) <= columns:
        return np.arange(len(x))
    span = (high - low) or 1.0
    column = np.clip((x - low) / span * columns, 0, columns - 1).astype(np.int64)
    return np.flatnonzero(np.append(True, np.diff(column) != 0))


def arg_highest(y: np.ndarray, starts: Indices) -> Indices:
    """Return the index of the first maximum of `y` [n] within each run that begins at `starts`."""
    if not len(starts):
        return starts
    run = np.zeros(len(y), np.int64)
    run[starts[1:]] = 1
    run = np.cumsum(run)
    candidates = np.flatnonzero(y == np.maximum.reduceat(y, starts)[run])
    first = np.append(True, np.diff(run[candidates]) != 0)
    highest: Indices = candidates[first]
    return highest


def extremes(x: np.ndarray, y: np.ndarray, low: float, high: float, columns: int) -> Indices:
    """Return the indices of the lowest and highest finite `y` in each of `columns` intervals of x.

    Returns:
        Indices in ascending order, at most 2 * columns; all of them when there are no more points.
    """
    if len(x) <= 2 * columns:
        return np.arange(len(x))
    starts = column_starts(x, low, high, columns)
    return np.unique(np.concatenate([arg_highest(y, starts), arg_highest(-y, starts)]))
