"""How threads share work, fail and end, and chores that one of them does beside it."""

import pytest

from tests.runtime.kernels.native import kernels_probe


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("grain", [1, 4, "short"])
def test_threads_that_are_done_take_over_work(threads, grain):
    done = [int(line) for line in kernels_probe("threads", threads, 120, grain)]
    assert len(done) == 120 and set(done) == set(range(threads))
    # The second half takes no time: whoever had it in advance helped with the first.
    helped = sum(thread != 0 for thread in done[: 120 // max(threads, 2)])
    assert helped >= 10 if threads > 1 else helped == 0


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_without_a_grain_the_split_is_made_in_advance(threads):
    done = [int(line) for line in kernels_probe("threads", threads, 100, 0)]
    expected = [
        t for t in range(threads) for _ in range(100 * t // threads, 100 * (t + 1) // threads)
    ]
    assert done == expected


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "count, grain",
    [
        (1000, 7),
        (2**32 + 5, 0),
        (2**32 - 1, 2**26),
        (5 * 2**32 + 12345, 2**26),
        (2**33, 3 * 2**24 + 1),
        (2**32, 2**31),
    ],
)
def test_ranges_cover_regions_of_any_length(threads, count, grain):
    """The program checks that there is no gap, no overlap and no range over the grain."""
    (line,) = kernels_probe("ranges", threads, count, grain)
    number, longest = map(int, line.split())
    if grain == 0 or threads == 1:
        assert number == threads and longest <= -(-count // threads)
    else:
        assert number >= count / grain and longest <= grain


def test_an_exception_of_any_thread_reaches_the_caller_and_harms_nothing():
    assert kernels_probe("throws", 3) == [f"thread {thread}: 100" for thread in range(3)]


def test_threads_that_cannot_be_started_are_an_error_and_leave_one():
    first, left, again, still, with_room = kernels_probe("refused", 300)
    for error in (first, again):  # the second time must not believe that they were started
        assert error.startswith("cannot start 300 threads: ") and "Use fewer threads" in error
    assert left == still == "1 1"
    assert with_room == "3 3"


def test_threads_and_scratch_are_given_back():
    working, idle, less_resident = kernels_probe("give_back")
    assert working == f"4 {4 << 20}"
    assert idle == "1 0"
    assert int(less_resident) > 4000


def chores(threads: int) -> dict[str, list[int]]:
    lines = [line.split() for line in kernels_probe("chores", threads)]
    return {moment: [int(number) for number in numbers] for moment, *numbers in lines}


def test_short_regions_are_not_shared_with_threads_that_were_late():
    """For a while; another program may have their core. A slow machine may need another try."""
    for _ in range(5):
        (line,) = kernels_probe("late", 2)
        at_once, balanced, later = map(int, line.split())
        if at_once == 0 and balanced > 0 and later > 0:
            return
    pytest.fail(line)


def test_a_chore_is_done_once_beside_the_next_balanced_region():
    result = chores(2)
    assert result["asked"] == [0]
    assert result["static"] == [0, 12]
    assert result["short"][0] == 0 and result["short"][1] > 0
    done, others = result["balanced"]
    assert done == 1 and others > 12  # half of the items, and more
    assert result["again"][0] == 1
    assert result["twice"] == [2]  # one that waits makes room for the next


def test_without_other_threads_a_chore_is_done_at_once():
    result = chores(1)
    assert [result[moment][0] for moment in ("asked", "static", "short", "balanced")] == [1] * 4
    assert result["twice"] == [3]
