"""From work to seconds: a machine's speed, and how it is found from phases that were timed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from toolkit.planning.cost import Work

PHASES = ("forward", "head", "backward")


@dataclass(frozen=True)
class Speed:
    """How fast a machine trains.

    Attributes:
        products: Floating-point operations a second in matrix products.
        attention: The same in attention.
        unpacked: Weights turned from codes to floats a second.
        moved: Bytes of activations read and written a second.
        updated: Adapter parameters the optimizer changes a second.
        written, read: Bytes a second to and from the file of checkpoints.
        factors: By phase, what its time is of that which the rates above give.
        overhead: Seconds a phase takes beside its operators (mapping weights, the trace).
    """

    products: float
    attention: float
    unpacked: float
    moved: float
    updated: float = 2e8
    written: float = 3e8
    read: float = 5e8
    factors: dict[str, float] = field(default_factory=dict)
    overhead: float = 5e-4

    def seconds(self, phase: str, work: Work) -> float:
        """Return the time of one occurrence of a phase."""
        return self.factors.get(phase, 1.0) * _time(self, work) + self.overhead


# Nobody has measured a phone yet: 40 GFLOP/s is half of what one x86-64 core with AVX2 does, a
# cautious figure for four fast ARM cores. Plans without a measurement say so.
ASSUMED = Speed(products=40e9, attention=16e9, unpacked=2e9, moved=4e9)


def fit_speed(timed: Sequence[tuple[str, Work, float]]) -> Speed:
    """Return the speed that explains timed phases best.

    Args:
        timed: (phase, work, seconds) of single phases, with lengths that differ: long ones tell
            the rate of products, short ones that of unpacking.

    Raises:
        ValueError: There is nothing to fit.
    """
    if not timed:
        raise ValueError("no timed phases")
    seconds = np.array([max(row[2] - ASSUMED.overhead, 1e-6) for row in timed])
    # Attention and moving keep their assumed ratio to products: too small here to be told apart.
    columns = np.array(
        [
            [
                work.products
                + work.attention * ASSUMED.products / ASSUMED.attention
                + work.moved * ASSUMED.products / ASSUMED.moved,
                work.unpacked,
            ]
            for _, work, _ in timed
        ]
    )
    product_time, unpack_time = _positive_fit(columns / seconds[:, None])
    products = 1.0 / product_time
    base = Speed(
        products=products,
        attention=products * ASSUMED.attention / ASSUMED.products,
        unpacked=1.0 / unpack_time,
        moved=products * ASSUMED.moved / ASSUMED.products,
    )
    factors = {}
    for phase in {row[0] for row in timed}:
        ratios = [
            second / _time(base, work)
            for (name, work, _), second in zip(timed, seconds, strict=True)
            if name == phase
        ]
        factors[phase] = float(np.exp(np.mean(np.log(ratios))))
    return Speed(base.products, base.attention, base.unpacked, base.moved, factors=factors)


def _time(speed: Speed, work: Work) -> float:
    return (
        work.products / speed.products
        + work.attention / speed.attention
        + work.unpacked / speed.unpacked
        + work.moved / speed.moved
    )


def _positive_fit(columns: np.ndarray) -> tuple[float, float]:
    """Return positive x with columns @ x as near to one as can be: relative errors are equal."""
    target = np.ones(len(columns))
    both, *_ = np.linalg.lstsq(columns, target, rcond=None)
    alone = [float(c @ target / (c @ c)) for c in columns.T]
    # One rate may not be told from few points; it is then ten times what would explain all.
    smallest = [0.02 * value for value in alone]
    if both[1] < smallest[1]:
        return alone[0], smallest[1]
    if both[0] < smallest[0]:
        return smallest[0], alone[1]
    return float(both[0]), float(both[1])
