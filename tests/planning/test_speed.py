"""A machine's speed is found again from phases that it timed."""

import pytest

from toolkit.planning.cost import Work
from toolkit.planning.speed import ASSUMED, PHASES, Rate, Speed, fit_speed

WORK = {
    "forward": Work(2e9, 1e7, 5e6, 4e6),
    "head": Work(6e9, 0, 1e7, 1e6),
    "backward": Work(6e9, 4e7, 1.5e7, 2e7),
}
TRUE = Speed({"forward": Rate(90e9, 1e9), "head": Rate(120e9, 4e9), "backward": Rate(70e9, 5e8)})


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
    for phase in PHASES:
        assert speed.rates[phase].products == pytest.approx(TRUE.rates[phase].products, rel=1e-6)
        assert speed.rates[phase].unpacked == pytest.approx(TRUE.rates[phase].unpacked, rel=1e-6)


def test_noise_stays_noise() -> None:
    noisy = [(p, w, s * (1.05 if i % 2 else 0.95)) for i, (p, w, s) in enumerate(timed(TRUE))]
    speed = fit_speed(noisy)
    for phase, work, seconds in timed(TRUE, (0.1, 0.5, 2.0)):
        assert speed.seconds(phase, work) == pytest.approx(seconds, rel=0.15)


def test_one_length_alone_still_gives_positive_rates() -> None:
    for lengths in ((1.0,), (0.1,)):
        for rate in fit_speed(timed(TRUE, lengths)).rates.values():
            assert 0 < rate.products < 1e13 and 0 < rate.unpacked < 1e13


def test_nothing_timed() -> None:
    with pytest.raises(ValueError, match="no timed phases"):
        fit_speed(timed(TRUE)[:2])
    assert ASSUMED.seconds("forward", WORK["forward"]) > ASSUMED.overhead
