"""A machine's speed is found again from phases that it timed."""

import pytest

from toolkit.planning.cost import Work
from toolkit.planning.speed import ASSUMED, Speed, fit_speed

WORK = {
    "forward": Work(2e9, 1e7, 5e6, 4e6),
    "head": Work(6e9, 0, 1e7, 1e6),
    "backward": Work(6e9, 4e7, 1.5e7, 2e7),
}
TRUE = Speed(products=90e9, attention=36e9, unpacked=1e9, moved=9e9)


def timed(speed: Speed, lengths: tuple[float, ...] = (0.1, 1.0)) -> list:
    rows = []
    for phase, work in WORK.items():
        for length in lengths:
            scaled = Work(
                work.products * length,
                work.attention * length**2,
                work.unpacked,
                work.moved * length,
            )
            rows.append((phase, scaled, speed.seconds(phase, scaled)))
    return rows


def test_rates_are_recovered() -> None:
    speed = fit_speed(timed(TRUE))
    assert speed.products == pytest.approx(TRUE.products, rel=1e-6)
    assert speed.unpacked == pytest.approx(TRUE.unpacked, rel=1e-6)
    assert all(factor == pytest.approx(1) for factor in speed.factors.values())


def test_phases_have_their_own_factors() -> None:
    slow_head = Speed(TRUE.products, TRUE.attention, TRUE.unpacked, TRUE.moved, factors={"head": 2})
    speed = fit_speed(timed(slow_head))
    for phase, work, seconds in timed(slow_head):
        assert speed.seconds(phase, work) == pytest.approx(seconds, rel=0.25)


def test_one_length_alone_still_gives_positive_rates() -> None:
    for lengths in ((1.0,), (0.1,)):
        speed = fit_speed(timed(TRUE, lengths))
        assert 0 < speed.products < 1e13 and 0 < speed.unpacked < 1e13


def test_nothing_timed() -> None:
    with pytest.raises(ValueError, match="no timed phases"):
        fit_speed([])
    assert ASSUMED.seconds("forward", WORK["forward"]) > ASSUMED.overhead
