"""How threads share work, and chores that one of them does beside it."""

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


def chores(threads: int) -> dict[str, list[int]]:
    lines = [line.split() for line in probe("chores", threads).decode().splitlines()]
    return {moment: [int(number) for number in numbers] for moment, *numbers in lines}


def test_a_chore_is_done_once_beside_the_next_balanced_region():
    result = chores(2)
    assert result["asked"] == [0]
    assert result["static"] == [0, 12]
    done, others = result["balanced"]
    assert done == 1 and others > 15  # half of the items, and what the chore's time left undone
    assert result["again"][0] == 1
    assert result["twice"] == [2]  # one that waits makes room for the next


def test_without_other_threads_a_chore_is_done_at_once():
    result = chores(1)
    assert [result[moment][0] for moment in ("asked", "static", "balanced", "again")] == [1] * 4
    assert result["twice"] == [3]
