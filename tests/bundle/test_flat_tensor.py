"""Our .ptd files against ExecuTorch's own serializer, both ways, and against damage."""

import hashlib
import zlib

import numpy as np
import pytest
import torch
from executorch.exir._serialize._cord import Cord
from executorch.exir._serialize.data_serializer import DataEntry, DataPayload
from executorch.exir.tensor_layout import TensorLayout
from executorch.extension.flat_tensor.serialize.serialize import (
    FlatTensorConfig,
    FlatTensorSerializer,
)

from toolkit.bundle.flat_tensor import (
    FlatTensorReader,
    TensorSpec,
    flat_tensor_bytes,
    write_flat_tensor,
)
from toolkit.bundle.flat_tensor_header import head_length
from toolkit.errors import ToolkitError

DTYPES = [torch.uint8, torch.int8, torch.int32, torch.int64, torch.float16, torch.float32]


def example_tensors():
    generator = torch.Generator().manual_seed(3)
    shapes = [(7,), (3, 5), (2, 64, 8), (1,), (), (40_000,)]
    tensors = {}
    for i, (dtype, shape) in enumerate(zip(DTYPES, shapes, strict=True)):
        values = torch.randint(0, 100, shape, generator=generator)
        tensors[f"layers.{i}.päth"] = values.to(dtype)
    return tensors


def write(path, tensors, **options):
    specs = [TensorSpec(name, tuple(t.shape), t.dtype) for name, t in tensors.items()]
    write_flat_tensor(path, specs, iter(tensors.values()), **options)
    return specs


def test_executorch_reads_what_we_write(tmp_path):
    tensors = example_tensors()
    write(tmp_path / "a.ptd", tensors)
    payload = FlatTensorSerializer().deserialize(Cord((tmp_path / "a.ptd").read_bytes()))
    assert set(payload.named_data) == {*tensors, "sha256", "checksums"}
    for name, tensor in tensors.items():
        entry = payload.named_data[name]
        layout = TensorLayout.from_tensor(tensor)
        assert entry.tensor_layout == layout, name
        assert payload.buffers[entry.buffer_index] == tensor.numpy().tobytes(), name


def test_we_read_what_executorch_writes(tmp_path):
    tensors = example_tensors()
    named = {
        name: DataEntry(i, 1, TensorLayout.from_tensor(tensor))
        for i, (name, tensor) in enumerate(tensors.items())
    }
    payload = DataPayload([t.numpy().tobytes() for t in tensors.values()], named)
    blob = FlatTensorSerializer(FlatTensorConfig(segment_alignment=16384)).serialize(payload)
    (tmp_path / "b.ptd").write_bytes(bytes(blob))
    reader = FlatTensorReader(tmp_path / "b.ptd")
    assert reader.keys() == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(reader.tensor(name), tensor), name
    write(tmp_path / "a.ptd", tensors)
    ours = FlatTensorReader(tmp_path / "a.ptd")
    offsets = [
        [r.offset(name) - r.offset(next(iter(tensors))) for name in tensors] for r in (reader, ours)
    ]
    assert offsets[0] == offsets[1]


def test_round_trip_alignment_progress_and_size(tmp_path):
    tensors = example_tensors()
    seen = []
    specs = write(tmp_path / "a.ptd", tensors, on_bytes=seen.append)
    reader = FlatTensorReader(tmp_path / "a.ptd")
    for name, tensor in tensors.items():
        got = reader.tensor(name)
        assert got.dtype == tensor.dtype and torch.equal(got, tensor), name
        assert reader.offset(name) % 16384 == 0
    assert sum(seen) == sum(spec.nbytes for spec in specs)
    size = (tmp_path / "a.ptd").stat().st_size
    assert size <= flat_tensor_bytes(specs) <= size + 4 * 16384


def test_the_sums_behind_the_tensors_are_those_of_the_file(tmp_path):
    path = tmp_path / "a.ptd"
    tensors = example_tensors()
    write(path, tensors)
    data = path.read_bytes()
    payload = FlatTensorSerializer().deserialize(Cord(data))
    found = {name: payload.buffers[e.buffer_index] for name, e in payload.named_data.items()}
    sums = np.frombuffer(found["checksums"], dtype="<u4")
    head = data[: head_length(data)]
    parts = [head, *(tensors[name].numpy().tobytes() for name in tensors), found["sha256"]]
    assert sums.tolist() == [*map(zlib.crc32, parts), zlib.crc32(sums[:-1].tobytes())]
    assert data.endswith(found["checksums"])
    before = data[: len(data) - len(found["checksums"])].rindex(found["sha256"])
    assert found["sha256"] == hashlib.sha256(data[:before]).digest()
    reader = FlatTensorReader(path)
    assert reader.sha256() == found["sha256"]
    assert reader.keys() == list(tensors) and "sha256" not in reader


def test_a_tensor_of_the_reader_does_not_reach_the_file(tmp_path):
    write(tmp_path / "a.ptd", {"x": torch.zeros(8)})
    before = (tmp_path / "a.ptd").read_bytes()
    FlatTensorReader(tmp_path / "a.ptd").tensor("x").fill_(1)
    assert (tmp_path / "a.ptd").read_bytes() == before


@pytest.mark.parametrize(
    "tensors", [[torch.zeros(3)], [torch.zeros(2), torch.zeros(2)], [torch.zeros(2).half()], []]
)
def test_a_mismatch_leaves_no_file(tmp_path, tensors):
    with pytest.raises(ValueError):
        write_flat_tensor(tmp_path / "a.ptd", [TensorSpec("x", (2,), torch.float32)], tensors)
    assert list(tmp_path.iterdir()) == []


def test_every_damaged_file_is_refused_or_read_without_a_crash(tmp_path):
    tensors = {"x": torch.arange(8.0), "y": torch.arange(6).reshape(2, 3)}
    write(tmp_path / "a.ptd", tensors, alignment=64)
    good = (tmp_path / "a.ptd").read_bytes()
    path = tmp_path / "bad.ptd"
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        with pytest.raises(ToolkitError):
            FlatTensorReader(path)
    random = np.random.default_rng(0)
    for _ in range(1500):
        data = bytearray(good)
        for position in random.integers(0, len(good) - 100, size=3):
            data[position] = random.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            reader = FlatTensorReader(path)
            for name in reader.keys():  # noqa: SIM118  a method, not a mapping
                reader.tensor(name)
        except ToolkitError:
            pass


def test_unknown_names_and_absent_files_are_errors(tmp_path):
    write(tmp_path / "a.ptd", {"x": torch.zeros(1)})
    with pytest.raises(ToolkitError, match="no tensor 'y'"):
        FlatTensorReader(tmp_path / "a.ptd").tensor("y")
    with pytest.raises(ToolkitError, match="Cannot read"):
        FlatTensorReader(tmp_path / "absent.ptd")
