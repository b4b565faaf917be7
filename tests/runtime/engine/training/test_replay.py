"""`trainer replay`: an adapter from another and moves, against replay.py, bit by bit."""

import json

import numpy as np
import pytest
import torch

from tests.runtime.running import error_of, run
from toolkit.bundle.flat_tensor import FlatTensorReader, TensorSpec, write_flat_tensor
from toolkit.federation.scalars import Replay, write_moves
from toolkit.replaying.estimates import Estimate
from toolkit.replaying.replay import apply, places

LAYERS = (0, 2)
STEPS = [
    (2**47 + 12345, Estimate(7, 0.02, 0.1, 4.0, (0.5,))),
    (99, Estimate(1, 0.01, 0.0, 1.0, (-2.0, 0.25, 1e-3))),
    (2**47 + 12345, Estimate(2**31 - 1, 0.02, 0.1, 4.0, (3.0,))),
]


def made_of(case, replay, path, alignment=16384):
    """Write what the moves make of the case's adapter, by Python."""
    reader = FlatTensorReader(case.adapter)
    values = {name: reader.tensor(name).clone() for name in reader}
    for name, place in places(values).items():
        for seed, step in replay.steps:
            if place.layer in replay.layers and (place.is_b or not replay.b_alone):
                apply(step, seed, place, values[name].numpy().reshape(-1), np.float32(np.inf))
    write_flat_tensor(path, reader.specs(), values.values(), alignment)
    return path


def files(case, folder, moves="moves.ptd"):
    paths = {"adapter": case.adapter, "moves": folder / moves, "out": folder / "made.ptd"}
    return {"bundle": case.bundle, "threads": 2, **paths}


@pytest.mark.parametrize("b_alone", [False, True])
def test_the_file_has_the_same_bytes(case, tmp_path, b_alone):
    replay = Replay(STEPS, LAYERS, b_alone)
    wanted = made_of(case, replay, tmp_path / "wanted.ptd")
    write_moves(tmp_path / "moves.ptd", replay, wanted)
    said = json.loads(run("replay", **files(case, tmp_path)).stdout)
    assert said == {"type": "replay", "moves": 5}
    assert (tmp_path / "made.ptd").read_bytes() == wanted.read_bytes() != case.adapter.read_bytes()


def test_what_does_not_fit_leaves_nothing(case, tmp_path):
    replay = Replay(STEPS, LAYERS, False)
    wanted = made_of(case, replay, tmp_path / "wanted.ptd")
    write_moves(tmp_path / "moves.ptd", replay, wanted)
    content = bytearray((tmp_path / "moves.ptd").read_bytes())
    content[FlatTensorReader(tmp_path / "moves.ptd").offset("factors") + 2] ^= 1
    (tmp_path / "damaged.ptd").write_bytes(content)
    write_moves(tmp_path / "other.ptd", Replay(STEPS[:2], LAYERS, False), wanted)
    write_moves(tmp_path / "deeper.ptd", Replay(STEPS, (0, 3), False), wanted)
    dense = made_of(case, replay, tmp_path / "dense.ptd", alignment=64)
    write_moves(tmp_path / "layout.ptd", replay, dense)
    reader = FlatTensorReader(wanted)
    write_flat_tensor(
        tmp_path / "part.ptd", reader.specs()[:2], map(reader.tensor, list(reader)[:2])
    )
    write_moves(tmp_path / "fewer.ptd", replay, tmp_path / "part.ptd")
    wild = Replay([(1, Estimate(1, 1e38, 0.0, 1.0, (3.0,)))], LAYERS, False)
    write_moves(tmp_path / "wild.ptd", wild, wanted)
    for name, why in {
        "damaged": "factors is damaged",
        "other": "the moves do not come to the adapter that they should",
        "deeper": "holds moves of another model",
        "layout": "the moves do not come to the adapter that they should",
        "fewer": "has another layout than what the moves make of it",
        "wild": "is not finite after the moves",
    }.items():
        message = error_of("replay", **files(case, tmp_path, f"{name}.ptd"))
        assert why in message and message.endswith(". Send the whole adapter"), name
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("made")]
    # What was there before stays.
    (tmp_path / "made.ptd").write_bytes(b"older")
    error_of("replay", **files(case, tmp_path, "other.ptd"))
    assert (tmp_path / "made.ptd").read_bytes() == b"older"
    assert not (tmp_path / "made.ptd.tmp").exists()


def test_more_moves_than_are_read_are_refused(case, tmp_path):
    shapes = {"b_alone": (1, 1), "seeds": ((8 << 20) + 1, 2)}
    specs = [TensorSpec(name, shape, torch.int32) for name, shape in shapes.items()]
    tensors = [torch.zeros(spec.shape, dtype=spec.dtype) for spec in specs]
    write_flat_tensor(tmp_path / "moves.ptd", specs, tensors)
    message = error_of("replay", **files(case, tmp_path))
    assert "moves.ptd: seeds takes more than 64 MiB. Send the whole adapter" in message
