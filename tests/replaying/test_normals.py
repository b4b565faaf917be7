"""The normal numbers of random directions: published words, a normal distribution, equal bits."""

import json
import math

import numpy as np
import pytest

from tests.runtime.running import probe, run
from toolkit.replaying import normals as module
from toolkit.replaying.normals import normals

COUNT = 400_000


@pytest.mark.parametrize(
    ("seed", "first", "counter", "words"),
    [
        (0, 0, (0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            0xFFFFFFFFFFFFFFFF,
            0xFFFFFFFF,
            (0xFFFFFFFF,) * 3,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            0x299F31D0A4093822,
            0x243F6A88,
            (0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_words_are_those_published(seed, first, counter, words):
    """Random123's known answers of philox4x32-10."""
    assert tuple(int(w[0]) for w in module._philox(seed, counter, first, first + 1)) == words


def test_they_are_normal_and_independent():
    z = np.stack([normals(5, (1, 2, step), COUNT).astype(np.float64) for step in range(3)])
    edges = np.linspace(-4, 4, 33)
    inside = [0.5 * math.erfc(-edge / math.sqrt(2)) for edge in edges]
    expected = np.diff([0.0, *inside, 1.0]) * COUNT
    for row in z:
        found = np.bincount(np.digitize(row, edges), minlength=len(expected))
        # Chi square of 33 degrees of freedom: above 80 once in 100,000.
        assert ((found - expected) ** 2 / expected).sum() < 80
        limit = 5 / math.sqrt(COUNT)  # five standard deviations of a correlation
        for lag in range(1, 8):
            assert abs(np.corrcoef(row[:-lag], row[lag:])[0, 1]) < limit
        assert abs(np.abs(row[:-1]) @ np.abs(row[1:]) / COUNT - 2 / math.pi) < 2 * limit
    off = np.corrcoef(z)[np.triu_indices(3, 1)]
    assert np.abs(off).max() < limit
    assert 4.5 < np.abs(z).max() < 5.78


def test_the_transform_is_that_of_box_and_muller():
    words = module._philox(3, (0, 0, 0), 0, 100_000)
    u = (2.0 * (words[0] >> np.uint64(9)) + 1) / 2**24
    x = (2.0 * (words[1] >> np.uint64(7) & np.uint64(0x7FFFFF)) + 1) / 2**24 - 0.5
    radius, angle = np.sqrt(-2 * np.log(u)), (x + (words[1] >> np.uint64(30))) * np.pi / 2
    z = normals(3, (0, 0, 0), 400_000).reshape(-1, 4)
    for found, exact in ((z[:, 0], radius * np.cos(angle)), (z[:, 1], radius * np.sin(angle))):
        # Two ulp of the radius' and one of the turn's polynomial, of numbers below 6.
        assert np.abs(found - exact).max() < 6 * 4 * 2**-24


@pytest.mark.parametrize("isa", json.loads(run("describe", json=True).stdout)["instruction_sets"])
@pytest.mark.parametrize("count", [1, 3, 64, 65, 127, 30_001])
def test_every_instruction_set_has_the_same_bits(isa, count):
    seed, counter = 0x123456789ABCDEF, (3 + (2 << 16), 31, 70_000)
    found = np.frombuffer(probe("normals", isa, seed, *counter, count), np.float32)
    assert found.tobytes() == normals(seed, counter, count).tobytes()


def test_an_element_does_not_depend_on_how_many_there_are():
    long = normals(1, (2, 3, 4), 4 * module._CHUNK + 9)
    for count in (1, 6, 1000, 4 * module._CHUNK + 1):
        assert np.array_equal(normals(1, (2, 3, 4), count), long[:count])
    others = [normals(2, (2, 3, 4), 9), normals(1, (3, 3, 4), 9), normals(1, (2, 4, 4), 9)]
    assert all(np.all(other != long[:9]) for other in [*others, normals(1, (2, 3, 5), 9)])
