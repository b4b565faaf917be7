"""From work to seconds: a machine's speed, and how it is found from phases that were timed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.planning.cost import Work

PHASES = ("forward", "head", "backward")
# Seen on x86-64 with AVX-512 over models, lengths and both methods; too small a part of a
# calibration to be told apart there.
_ATTENTION = 0.6  # rate of attention to that of products
_MOVED = 1 / 16  # bytes moved for an operation of products


@dataclass(frozen=True)
class Rate:
    """Operations of products, and weights turned from codes to floats, a second."""

    products: float
    unpacked: float

    def seconds(self, work: Work) -> float:
        return _equivalent(work) / self.products + work.unpacked / self.unpacked


@dataclass(frozen=True)
class Speed:
    """How fast a machine trains.

    Attributes:
        rates: By phase: blocks forward and backward and the head use their weights differently.
        updated: Adapter parameters the optimizer changes a second.
        low_rank: Multiply-adds of an optimizer's small products a second, one thread.
        written, read: Bytes a second to and from the file of checkpoints.
        overhead: Seconds a phase takes beside its operators (mapping weights, the trace).
    """

    rates: Mapping[str, Rate]
    updated: float = 2e8
    low_rank: float = 1.4e9
    written: float = 1e9
    read: float = 2e9
    overhead: float = 7e-4

    @property
    def products(self) -> float:
        """Operations of products a second in the blocks, for people."""
        return self.rates["forward"].products

    def seconds(self, phase: str, work: Work) -> float:
        """Return the time of one occurrence of a phase."""
        rate = self.rates.get(phase, self.rates["forward"])
        return rate.seconds(work) + self.overhead


# Nobody has measured a phone yet: 40 GFLOP/s is half of what one x86-64 core with AVX2 does, a
# cautious figure for four fast ARM cores. Plans without a measurement say so.
ASSUMED = Speed({phase: Rate(products=40e9, unpacked=5e8) for phase in PHASES})


def fit_speed(timed: Sequence[tuple[str, Work, float]]) -> Speed:
    """Return the speed that explains timed phases best.

    Args:
        timed: (phase, work, seconds) of single phases, every phase with lengths that differ: long
            ones tell the rate of products, short ones that of unpacking.

    Raises:
        ValueError: A phase was not timed.
    """
    rates = {}
    for phase in PHASES:
        rows = [(work, seconds) for name, work, seconds in timed if name == phase]
        if not rows:
            raise ValueError(f"no timed phases: {phase}")
        seconds = np.array([max(row[1] - ASSUMED.overhead, 1e-6) for row in rows])
        columns = np.array([[_equivalent(work), work.unpacked] for work, _ in rows])
        product_time, unpack_time = _positive_fit(columns / seconds[:, None])
        rates[phase] = Rate(1.0 / product_time, 1.0 / unpack_time)
    return Speed(rates)


def _equivalent(work: Work) -> float:
    """Return all of it but the unpacking, as operations of products that take as long."""
    return work.products + work.attention / _ATTENTION + work.moved / _MOVED


def _positive_fit(columns: np.ndarray) -> tuple[float, float]:
    """Return positive x with columns @ x as near to one as can be: relative errors are equal."""
    target = np.ones(len(columns))
    both, *_ = np.linalg.lstsq(columns, target, rcond=None)
    alone = [float(c @ target / (c @ c)) for c in columns.T]
    # A part that few points cannot tell counts a fiftieth of what would explain all.
    smallest = [0.02 * value for value in alone]
    if both[1] < smallest[1]:
        return alone[0], smallest[1]
    if both[0] < smallest[0]:
        return smallest[0], alone[1]
    return float(both[0]), float(both[1])
