"""The held-out part: as large as asked, by content, and never trained on."""

from hypothesis import given
from hypothesis import strategies as st

from toolkit.data.holdout import Item, choose_held_out

T = 16
PARTS = st.lists(st.integers(1, T), min_size=1, max_size=1)
TEXTS = st.integers(2, 40).map(lambda count: [T] * count)
ITEMS = st.lists(st.tuples(st.one_of(PARTS, TEXTS), st.integers(0, 30)), min_size=1, max_size=40)


def items_of(drawn: list[tuple[list[int], int]]) -> list[Item]:
    """Equal numbers and sizes are equal documents; those of several parts can be divided."""
    return [Item(f"{number}:{sizes}", tuple(sizes), len(sizes) > 1) for sizes, number in drawn]


def tokens(items: list[Item], held: list[range]) -> tuple[int, int]:
    """Return tokens held out and tokens in all."""
    out = sum(item.sizes[i] for item, own in zip(items, held, strict=True) for i in own)
    return out, sum(sum(item.sizes) for item in items)


@given(drawn=ITEMS, share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_equal_documents_stay_together_and_the_order_does_not_matter(drawn, share, seed):
    items = items_of(drawn)
    held = choose_held_out(items, share, seed)
    by_content = {item.content: own for item, own in zip(items, held, strict=True)}
    assert all(by_content[item.content] == own for item, own in zip(items, held, strict=True))
    assert choose_held_out(items[::-1], share, seed) == held[::-1]
    for item, own in zip(items, held, strict=True):
        assert item.divisible or len(own) in (0, len(item.sizes))
    out, total = tokens(items, held)
    possible = len(by_content) > 1 or items[0].divisible
    assert bool(out) == possible and out < total


@given(
    sizes=st.lists(st.one_of(PARTS, TEXTS), min_size=1, max_size=60),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 5),
)
def test_the_share_is_met_within_one_sequence(sizes, share, seed):
    items = [Item(str(i), tuple(own), len(own) > 1) for i, own in enumerate(sizes)]
    out, total = tokens(items, choose_held_out(items, share, seed))
    possible = len(items) > 1 or items[0].divisible
    if possible:
        assert abs(out - share * total) <= T


@given(seed=st.integers(0, 50))
def test_chats_longer_than_a_sequence_are_held_out_whole(seed):
    items = [Item(str(i), (T,) * 5, False) for i in range(10)]
    held = choose_held_out(items, 0.05, seed)
    assert sorted(map(len, held)) == [0] * 9 + [5]


def test_what_is_held_out_is_a_fair_sample():
    """Long and short documents are held out alike: sizes must not decide."""
    sizes = [(1 + i % T,) for i in range(2000)]
    items = [Item(str(i), own, False) for i, own in enumerate(sizes)]
    held = choose_held_out(items, 0.1, 0)
    chosen = [sum(item.sizes) for item, own in zip(items, held, strict=True) if own]
    mean = sum(chosen) / len(chosen)
    # Sizes 1 to 16 have mean 8.5 and deviation 4.6: about 200 of them, within six deviations.
    assert abs(mean - 8.5) < 6 * 4.6 / len(chosen) ** 0.5


def test_nothing_is_held_out_where_nothing_was_asked_for():
    items = [Item("a", (T,) * 9, True), Item("b", (T,), False)]
    assert choose_held_out(items, 0.0, 0) == [range(0), range(0)]
    assert choose_held_out([], 0.5, 0) == []
    assert choose_held_out([Item("a", (T,), False)], 0.5, 0) == [range(0)]
    assert choose_held_out([Item("a", (), False), Item("b", (T,), False)], 0.5, 0)[1] == range(0)
