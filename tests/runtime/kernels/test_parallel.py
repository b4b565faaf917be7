"""How threads share work."""

import pytest

from tests.runtime.trainer.running import probe


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("grain", [1, 4])
def test_threads_that_are_done_take_over_work(threads, grain):
    done = [int(line) for line in probe("threads", threads, 120, grain).split()]
    assert len(done) == 120 and set(done) == set(range(threads))
    # The second half takes no time: whoever had it in advance helped with the first.
    helped = sum(thread != 0 for thread in done[: 120 // max(threads, 2)])
    assert helped >= 10 if threads > 1 else helped == 0


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_without_a_grain_the_split_is_made_in_advance(threads):
    done = [int(line) for line in probe("threads", threads, 100, 0).split()]
    expected = [
        t for t in range(threads) for _ in range(100 * t // threads, 100 * (t + 1) // threads)
    ]
    assert done == expected
