"""Weights & Biases through its own library, offline."""

import json
import struct
import time

from tests.tracking.test_feed import AGAIN, FIRST
from toolkit.tracking.feed import Feed
from toolkit.tracking.points import TAGS

_FILE_HEADER, _BLOCK = 7, 1 << 15
_HEADER = struct.Struct("<IHB")  # checksum, size, kind
_WHOLE, _LAST = 1, 4


def logged(content):
    """Yield the records of a file of W&B, which has the form of LevelDB's logs."""
    at, record = _FILE_HEADER, b""
    while at < len(content):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER.size:  # no header begins so close to a block's end
            at += left
            continue
        _, size, kind = _HEADER.unpack_from(content, at)
        at += _HEADER.size + size
        record += content[at - size : at]
        if kind in (_WHOLE, _LAST):
            yield record
            record = b""


def whole_log(path):
    """Return the records of a run that has ended; the last may be written a moment later."""
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(100):
        records = [Record.FromString(data) for data in logged(path.read_bytes())]
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def test_points_are_what_its_own_files_hold(tmp_path, monkeypatch):
    from toolkit.tracking.wandb import Wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    feed = Feed("run1", [Wandb("phones")])
    feed.identity = lambda: "0123456789abcdef"
    for record in FIRST + AGAIN:
        feed.take(record)
        feed.flush()
    feed.close()
    [path] = tmp_path.rglob("*.wandb")
    rows, runs = {}, []
    for record in whole_log(path):
        if record.WhichOneof("record_type") == "run":
            runs.append(record.run)
        elif record.WhichOneof("record_type") == "history":
            items = {(i.key or "/".join(i.nested_key)): i.value_json for i in record.history.item}
            rows[record.history.step.num] = {k: json.loads(v) for k, v in items.items()}
    assert (runs[0].run_id, runs[0].project) == ("0123456789abcdef", "phones")
    assert runs[0].display_name == "run1"
    loss, held_out = TAGS["loss"], TAGS["held_out_loss"]
    # W&B keeps what it had first of a step: 6 and 7 came before the run was killed.
    expected = {n: 9.0 - n for n in range(1, 8)} | {8: 1.25, 9: 0.25}
    assert {n: row[loss] for n, row in rows.items() if loss in row} == expected
    assert {n: row[held_out] for n, row in rows.items() if held_out in row} == {0: 8, 3: 4, 9: 2}
