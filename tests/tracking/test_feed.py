"""Every point once: runs that go on, that repeat steps, that are looked at again."""

import math

import pytest

from tests.tracking.reading import PLACES, read_csv
from toolkit.errors import ToolkitError
from toolkit.tracking.csv_file import CsvFile
from toolkit.tracking.feed import Feed


def part(began=1000.0, resumed_from=None):
    settings = {"lr": 0.5}
    facts = {"time_unix": began, "resumed_from": resumed_from, "settings": settings}
    return [{"type": "run", "version": 1, **facts}]


def steps(first, last, shift=0.0):
    return [
        {
            "type": "step",
            "step": n,
            "t": n * 10**9 + 123456789,
            "seconds": 0.5,
            "loss": 9.0 - n + shift,
            "lr": 0.25,
            "tokens": 100,
            "labelled": 40,
            "grad_norm": 1.5,
            "peak": 2000,
        }
        for n in range(first, last + 1)
    ]


def held_out(step, loss):
    return [{"type": "evaluation", "step": step, "loss": loss, "perplexity": math.exp(loss)}]


FIRST = [*part(), *held_out(0, 8.0), *steps(1, 3), *held_out(3, 4.0), *steps(4, 7)]
AGAIN = [*part(2000.0, 5), *steps(6, 9, 0.25), *held_out(9, 2.0)]
"""A run that was killed in step 8 and goes on where it was saved, with other values."""


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    make, read = PLACES[request.param]
    return lambda: make(tmp_path), lambda: read(tmp_path)


def feed(tracker, records, *, looks=1):
    """Give records to a tracker with so many looks at the device."""
    fed = Feed("run1", [tracker])
    size = -(-len(records) // looks)
    for begin in range(0, len(records), size):
        for record in records[begin : begin + size]:
            fed.take(record)
        fed.flush()
    fed.close()


def losses(rows):
    return {step: row["loss"] for step, row in rows.items() if "loss" in row}


@pytest.mark.parametrize("looks", [1, 3, len(FIRST)])
def test_points_are_those_of_the_trace(place, looks):
    make, read = place
    feed(make(), FIRST, looks=looks)
    rows = read()
    assert list(rows) == list(range(8)) and rows[0] == {"held_out_loss": 8.0}
    assert losses(rows) == {n: 9.0 - n for n in range(1, 8)}
    assert {n: r["held_out_loss"] for n, r in rows.items() if "held_out_loss" in r} == {
        0: 8.0,
        3: 4.0,
    }
    known = {"learning_rate": 0.25, "grad_norm": 1.5, "tokens_per_second": 200.0}
    assert rows[2] == {"loss": 7.0, **known, "peak_bytes": 2000 * 1024}


def test_looking_again_adds_nothing(place, tmp_path):
    make, _ = place
    feed(make(), FIRST)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    feed(make(), FIRST)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("way", ["on", "again", "late", "once"])
def test_steps_that_are_repeated_are_there_once_as_they_were_last(place, way):
    """Fed through, by a second command, by one that sees all later, and only in the end."""
    make, read = place
    if way == "on":
        feed(make(), FIRST + AGAIN, looks=4)
    elif way == "again":
        feed(make(), FIRST)
        resumed = Feed("run1", [make()])
        resumed.require_same(FIRST)
        for record in AGAIN:
            resumed.take(record)
            resumed.flush()
        resumed.close()
    else:
        if way == "late":
            feed(make(), FIRST)
        feed(make(), FIRST + AGAIN)
    rows = read()
    expected = {n: 9.0 - n for n in range(1, 6)} | {n: 9.25 - n for n in range(6, 10)}
    assert losses(rows) == expected
    assert [n for n, row in rows.items() if "held_out_loss" in row] == [0, 3, 9]


def test_a_file_that_follows_within_a_second_is_read_after_the_first(tmp_path, monkeypatch):
    """TensorBoard orders them by name: ten comes before nine."""
    from tensorboard.summary.writer import event_file_writer

    make, read = PLACES["tensorboard"]
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(9))
    feed(make(tmp_path), FIRST)
    feed(make(tmp_path), FIRST + AGAIN)
    assert losses(read(tmp_path))[6] == 3.25


def test_what_was_missed_comes_later(place):
    make, read = place
    feed(make(), FIRST[:5])
    feed(make(), FIRST)
    assert losses(read()) == {n: 9.0 - n for n in range(1, 8)}
    assert read()[3]["held_out_loss"] == 4.0


def test_a_run_that_had_saved_nothing_begins_anew(place):
    make, read = place
    feed(make(), [*FIRST, *part(3000.0), *held_out(0, 8.0), *steps(1, 2)], looks=len(FIRST))
    assert losses(read()) == {1: 8.0, 2: 7.0} and set(read()) == {0, 1, 2}


def test_another_run_is_refused_and_nothing_of_it_written(place, tmp_path):
    make, read = place
    feed(make(), FIRST)
    before = read()
    with pytest.raises(ToolkitError, match="has points of another run"):
        Feed("run1", [make()]).require_free()
    other = [*part(5000.0), *steps(1, 3)]
    with pytest.raises(ToolkitError, match="has points of another run"):
        Feed("run1", [make()]).require_same(other)
    with pytest.raises(ToolkitError, match="has points of another run"):
        feed(make(), other)
    assert read() == before


def test_numbers_that_are_none_are_nan(place):
    make, read = place
    [record] = steps(1, 1)
    feed(make(), [*part(), {**record, "loss": None, "grad_norm": None, "seconds": 0}])
    row = read()[1]
    assert all(math.isnan(row[name]) for name in ("loss", "grad_norm", "tokens_per_second"))


def test_a_row_that_was_cut_off_is_written_again(tmp_path):
    path = tmp_path / "steps.csv"
    feed(CsvFile(path), FIRST)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    feed(CsvFile(path), FIRST)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", ["name,age\nAnn,3\n", "x", None])
def test_a_file_of_something_else_stays_as_it_is(tmp_path, content):
    path = tmp_path / "steps.csv"
    if content is None:
        feed(CsvFile(path), FIRST)
        content = path.read_text() + "1,2,3\n"
    path.write_text(content)
    with pytest.raises(ToolkitError, match="something else than the steps of a run"):
        Feed("run1", [CsvFile(path)]).require_free()
    assert path.read_text() == content


def test_a_place_that_cannot_be_used_is_named_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolkitError, match=r"steps.csv cannot be written: "):
        Feed("run1", [CsvFile(tmp_path / "file/steps.csv")])
    from toolkit.tracking.tensorboard import TensorBoard

    with pytest.raises(ToolkitError, match="cannot be made: "):
        Feed("run1", [TensorBoard(tmp_path / "file")])


def test_several_trackers_get_the_same(tmp_path):
    trackers = [CsvFile(tmp_path / name) for name in ("a.csv", "sub/b.csv")]
    fed = Feed("run1", trackers)
    assert fed.words == f"--csv {tmp_path / 'a.csv'} --csv {tmp_path / 'sub/b.csv'}"
    for record in FIRST:
        fed.take(record)
    fed.close()
    assert read_csv(tmp_path / "a.csv") == read_csv(tmp_path / "sub/b.csv") != {}
