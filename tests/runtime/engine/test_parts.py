"""Parts of the engine against their references: torch, transformers, safetensors."""

import importlib
import json
import os
import sys
import zlib
from itertools import islice
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import get_scheduler

from tests.runtime.running import probe
from toolkit.bundle.flat_tensor import TensorSpec, write_flat_tensor
from toolkit.oracle.sampler import sample_indices
from toolkit.safetensors_checksum import is_intact
from toolkit.settings.optimizers import OPTIMIZERS
from toolkit.settings.training import TrainSettings

EPS = float(np.finfo(np.float32).eps)


@pytest.mark.parametrize(
    ("name", "theirs", "more"),
    [
        ("constant", "constant_with_warmup", {}),
        ("linear", "linear", {}),
        ("cosine", "cosine", {}),
        ("linear", "polynomial", {"lr_end": 0.25}),
        ("cosine", "cosine_with_min_lr", {"min_lr": 0.25}),
    ],
)
@pytest.mark.parametrize(("warmup", "total"), [(0, 7), (3, 20), (5, 5), (9, 6)])
def test_schedules_are_those_of_transformers(name, theirs, more, warmup, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(theirs, optimizer, warmup, total, more)
    expected = [optimizer.param_groups[0]["lr"]]
    for _ in range(total - 1):
        optimizer.step()
        scheduler.step()
        expected.append(optimizer.param_groups[0]["lr"])
    floor = max(more.values(), default=0)
    actual = [float(line) for line in probe("schedule", name, warmup, total, floor).split()]
    assert actual == pytest.approx(expected, rel=1e-15, abs=1e-16)


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
@pytest.mark.parametrize("samples", [1, 2, 7, 1000])
def test_order_of_samples_is_the_documented_one(order, samples):
    expected = list(islice(sample_indices(samples, 12345, order), 2 * samples + 3))
    actual = [int(line) for line in probe("sampler", samples, 12345, order, len(expected)).split()]
    assert actual == expected
    middle = samples // 2 + 1
    rest = probe("sampler", samples, 12345, order, len(expected) - middle, middle)
    assert [int(line) for line in rest.split()] == expected[middle:]


STEPS = {"steps": 20, "learning_rate": 0.1}
SMALL = {"steps": 20, "learning_rate": 1e-2}


def reference_updates(settings, values, gradients):
    """Values after each step and gradient norms, by the optimizer's reference in PyTorch."""
    parameter = torch.nn.Parameter(torch.from_numpy(values.copy()))
    optimizer = OPTIMIZERS[settings.optimizer].reference([parameter], settings.effective())
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient.copy())
        norm = 0.0
        if settings.max_grad_norm > 0:
            norm = torch.nn.utils.clip_grad_norm_([parameter], settings.max_grad_norm).item()
        optimizer.step()
        yield parameter.detach().numpy().copy(), norm


def random_training(count, steps):
    """Values [count] and gradients [steps, count] of magnitudes that differ from step to step."""
    random = np.random.default_rng(0)
    values = random.standard_normal(count).astype(np.float32)
    gradients = random.standard_normal((steps, count)).astype(np.float32)
    gradients *= np.float32(10.0) ** random.integers(-4, 2, (steps, 1)).astype(np.float32)
    return values, gradients


def trained_by_the_engine(settings, rows, columns, values, gradients):
    """Values after each step and the norm of each gradient, [steps, count + 1]."""
    words = ["optimizer", rows, columns, len(gradients)]
    words += [f"{name.replace('_', '-')}={value}" for name, value in settings.flags().items()]
    output = probe(*words, stdin=values.tobytes() + gradients.tobytes())
    return np.frombuffer(output, np.float32).reshape(len(gradients), -1)


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(**STEPS, optimizer="sgd"),
        TrainSettings(**STEPS, optimizer="sgd", weight_decay=0.01, momentum=0.9),
        TrainSettings(**STEPS, optimizer="sgd", momentum=0.9, max_grad_norm=0.5),
        TrainSettings(**SMALL, optimizer="adamw"),
        TrainSettings(
            **SMALL, optimizer="adamw", weight_decay=0.1, beta1=0.8, beta2=0.99, eps=1e-6,
            max_grad_norm=1.0,
        ),
        TrainSettings(**SMALL, optimizer="lion", weight_decay=0.1),
        TrainSettings(**SMALL, optimizer="lion", beta1=0.95, beta2=0.98, max_grad_norm=0.5),
        TrainSettings(**STEPS, optimizer="lomo", weight_decay=0.01, max_grad_norm=0.5),
        TrainSettings(**SMALL, optimizer="adamw-8bit"),
        TrainSettings(
            **SMALL, optimizer="adamw-8bit", weight_decay=0.1, beta1=0.8, beta2=0.99, eps=1e-6,
            max_grad_norm=1.0,
        ),
        TrainSettings(**SMALL, optimizer="adalomo"),
        TrainSettings(
            **SMALL, optimizer="adalomo", weight_decay=0.1, eps=1e-3, decay_rate=0.6,
            update_clip=0.4, rms_floor=2.0,
        ),
        TrainSettings(**SMALL, optimizer="apollo"),
        TrainSettings(
            **SMALL, optimizer="apollo", weight_decay=0.1, beta1=0.8, beta2=0.99, eps=1e-3,
            projection_rank=3, projection_gap=4, update_scale=0.5,
        ),
        TrainSettings(**SMALL, optimizer="apollo-mini", update_scale=2),
        TrainSettings(**SMALL, optimizer="mlorc", projection_rank=2),
        TrainSettings(
            **SMALL, optimizer="mlorc", weight_decay=0.1, beta1=0.8, beta2=0.99, eps=1e-3,
            projection_rank=1,
        ),
    ],
    ids=lambda settings: settings.optimizer,
)  # fmt: skip
@pytest.mark.parametrize(("rows", "columns"), [(7, 143), (1024, 9)], ids=["wide", "tall"])
def test_optimizers_are_their_references(settings, rows, columns):
    """Wide ones are too small for states of 8 bits, tall ones are not."""
    count, steps = rows * columns, settings.steps
    values, gradients = random_training(count, steps)
    output = trained_by_the_engine(settings, rows, columns, values, gradients)
    # A handful of roundings a step, relative to the largest magnitude that enters an update.
    scale = np.abs(values) + np.cumsum(np.abs(gradients), 0) * settings.learning_rate * 10 + 1
    shape = (rows, columns)
    reference = reference_updates(settings, values.reshape(shape), gradients.reshape(steps, *shape))
    for step, (expected, norm) in enumerate(reference):
        error = np.abs(output[step, :-1] - expected.flatten())
        limit = 8 * (step + 1) * EPS * scale[step]
        worst = int(np.argmax(error - limit))
        assert error[worst] <= limit[worst], f"step {step}, element {worst}: {error[worst]}"
        assert output[step, -1] == pytest.approx(norm, rel=1e-6)


def test_lomo_is_sgd_bit_by_bit():
    values, gradients = random_training(1001, 20)
    sgd, lomo = (
        trained_by_the_engine(TrainSettings(**STEPS, optimizer=name), 7, 143, values, gradients)
        for name in ("sgd", "lomo")
    )
    assert sgd.tobytes() == lomo.tobytes()


def test_mlorc_of_full_rank_is_adamw():
    """With an eps that is too small for it to matter where it is added."""
    values, gradients = random_training(8 * 140, 20)
    settings = TrainSettings(
        **SMALL, optimizer="mlorc", weight_decay=0, projection_rank=8, eps=1e-20
    )
    mlorc = trained_by_the_engine(settings, 8, 140, values, gradients)[:, :-1]
    settings = TrainSettings(**SMALL, optimizer="adamw", eps=1e-20)
    adamw = trained_by_the_engine(settings, 8, 140, values, gradients)[:, :-1]
    assert np.abs(mlorc - adamw).max() < 1e-6 * np.abs(values).max()
    assert np.abs(adamw - values).max() > 0.05


@pytest.mark.parametrize("shape", [(8, 140), (140, 8)], ids=["wide", "tall"])
def test_mlorc_of_half_the_rank_is_its_reference(shape):
    """As a whole: where a compressed second moment is nearly zero, rounding decides alone."""
    values, gradients = random_training(8 * 140, 20)
    settings = TrainSettings(**SMALL, optimizer="mlorc")
    output = trained_by_the_engine(settings, *shape, values, gradients)
    reference = reference_updates(settings, values.reshape(shape), gradients.reshape(20, *shape))
    for ours, (expected, _) in zip(output, reference, strict=True):
        moved = np.linalg.norm(expected.flatten() - values)
        assert np.linalg.norm(ours[:-1] - expected.flatten()) < 1e-3 * moved


def test_apollo_begins_where_b_lets_a_have_a_gradient():
    """A gradient of zeros, as A's in the first step, does not hold the ones after it down."""
    values, gradients = random_training(8 * 140, 3)
    gradients[0] = 0
    output = trained_by_the_engine(
        TrainSettings(**SMALL, optimizer="apollo-mini"), 8, 140, values, gradients
    )[:, :-1]
    assert np.array_equal(output[0], values)
    assert np.linalg.norm(output[1] - output[0]) > 1e-3


def oracle(module):
    """A module that tools/setup installs for tests alone; without it CI fails."""
    if os.environ.get("CI") == "true":
        return importlib.import_module(module)
    return pytest.importorskip(module)


def test_adalomo_is_its_package(monkeypatch):
    lomo_optim = oracle("lomo_optim")
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor, *more, **options: tensor)
    values, gradients = random_training(8 * 140, 10)
    settings = TrainSettings(steps=10, learning_rate=1e-2, optimizer="adalomo")
    output = trained_by_the_engine(settings, 8, 140, values, gradients)[:, :-1]
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.from_numpy(values.reshape(8, 140).copy()))
    theirs = lomo_optim.AdaLomo(model, lr=1e-2)
    for gradient, ours in zip(gradients, output, strict=True):
        loss = (model.weight * torch.from_numpy(gradient.reshape(8, 140).copy())).sum()
        theirs.fused_backward(loss, 1e-2)
        expected = model.weight.detach().numpy().flatten()
        assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected - values).max()


@pytest.mark.parametrize(("optimizer", "kind"), [("apollo", "channel"), ("apollo-mini", "tensor")])
@pytest.mark.parametrize("shape", [(8, 140), (140, 8)], ids=["wide", "tall"])
def test_apollo_is_its_package(monkeypatch, optimizer, kind, shape):
    for part in ("", ".functional", ".optim", ".optim.optimizer"):  # of what is not used here
        monkeypatch.setitem(sys.modules, f"bitsandbytes{part}", MagicMock())
    package = oracle("apollo_torch.apollo")

    values, gradients = random_training(8 * 140, 10)
    gradients += np.float32(0.1) * np.sign(gradients)
    settings = TrainSettings(
        steps=10, learning_rate=1e-2, optimizer=optimizer, projection_gap=4, update_scale=2
    ).effective()
    output = trained_by_the_engine(settings, *shape, values, gradients)[:, :-1]
    parameter = torch.nn.Parameter(torch.from_numpy(values.reshape(shape).copy()))
    projection = OPTIMIZERS[optimizer].reference([parameter], settings).projection

    class Projector:
        """What theirs does, with our numbers."""

        def __init__(self, *arguments, **options):
            pass

        def project(self, gradient, step):
            p = projection(step // 4, 8).float()
            return gradient @ p.T if shape[0] >= shape[1] else p @ gradient

    monkeypatch.setattr(package, "GradientProjector", Projector)
    group = {
        "params": [parameter], "rank": 1, "proj": "random", "scale_type": kind, "scale": 2,
        "update_proj_gap": 4, "proj_type": "std",
    }  # fmt: skip
    theirs = package.AdamW([group], lr=1e-2)
    for gradient, ours in zip(gradients, output, strict=True):
        parameter.grad = torch.from_numpy(gradient.reshape(shape).copy())
        theirs.step()
        expected = parameter.detach().numpy().flatten()
        assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected - values).max()


def test_eight_bit_moments_are_those_of_torchao(monkeypatch):
    """Its corrections are rounded to float32, which at 0.001 is a hundred thousandth off."""
    from torchao.optim import AdamW8bit

    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    values, gradients = random_training(8192, 20)
    gradients += np.float32(0.01) * np.sign(gradients)  # none of a magnitude that eps decides on
    settings = TrainSettings(**SMALL, optimizer="adamw-8bit", weight_decay=0.1)
    output = trained_by_the_engine(settings, 8, 1024, values, gradients)[:, :-1]
    parameter = torch.nn.Parameter(torch.from_numpy(values.reshape(8, 1024).copy()))
    theirs = AdamW8bit([parameter], lr=1e-2, weight_decay=0.1)
    for gradient, ours in zip(gradients, output, strict=True):
        before = parameter.detach().clone()
        parameter.grad = torch.from_numpy(gradient.reshape(8, 1024).copy())
        theirs.step()
        moved = (parameter - before).norm()
        off = (parameter - torch.from_numpy(ours.reshape(8, 1024).copy())).norm()
        assert off < 1e-3 * moved


def test_tensors_that_are_soon_done_are_left_to_one_thread():
    """Threads would take longer to meet; larger ones are shared out in full."""
    assert probe("element-ranges", 4, 8192).split() == [b"0", b"8192"]
    lines = probe("element-ranges", 4, 8193).decode().splitlines()
    ranges = sorted(tuple(map(int, line.split())) for line in lines)
    assert len(ranges) == 4
    assert [begin for begin, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert ranges[-1][1] == 8193


def test_flat_tensor_files_of_the_exporter_are_read(tmp_path):
    path = tmp_path / "a.ptd"
    tensors = {
        "layers.0.codes": torch.arange(48, dtype=torch.uint8).reshape(2, 3, 8),
        "scale": torch.ones(5, dtype=torch.float16),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3.0),
    }
    specs = [TensorSpec(name, tuple(t.shape), t.dtype) for name, t in tensors.items()]
    write_flat_tensor(path, specs, tensors.values())
    lines = dict(line.split(" ", 1) for line in probe("tensors", path).decode().splitlines())
    assert {name: line.rsplit(" ", 1)[0] for name, line in lines.items()} == {
        "layers.0.codes": "uint8 [2, 3, 8]",
        "scale": "float16 [5]",
        "empty": "float32 [0, 4]",
        "scalar": "float32 []",
    }
    offset = int(lines["layers.0.codes"].rsplit(" ", 1)[1])
    assert path.read_bytes()[offset : offset + 48] == bytes(range(48))


def test_a_damaged_flat_tensor_file_is_an_error_and_never_a_crash(tmp_path):
    path = tmp_path / "a.ptd"
    specs = [TensorSpec(f"t{i}", (i + 1, 2), torch.float32) for i in range(3)]
    write_flat_tensor(path, specs, [torch.zeros(spec.shape) for spec in specs], alignment=64)
    whole = bytearray(path.read_bytes())
    head = whole.index(b"\0" * 64, 300) if b"\0" * 64 in whole[300:] else 400
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for at in random.integers(0, head, 3):
            damaged[at] = int(random.integers(0, 256))
        path.write_bytes(damaged)
        try:
            probe("tensors", path)
        except AssertionError:
            message = probe("tensors", path, fails=True).decode()
            assert message.startswith("error: ") and message.count("\n") == 1
            refused += 1
    assert refused > 10
    for size in (0, 7, 47, 48, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert b"a.ptd" in probe("tensors", path, fails=True)


def test_safetensors_files_are_read_by_the_package(tmp_path):
    path = tmp_path / "a.safetensors"
    probe("safetensors", path)
    tensors = load_file(path)
    assert set(tensors) == {"first.weight", "b"}
    assert torch.equal(tensors["first.weight"], torch.arange(6).reshape(2, 3) - 2.5)
    expected = torch.tensor([1 / 3, 1 / 4, 1 / 5], dtype=torch.float32).reshape(3, 1)
    assert torch.equal(tensors["b"], expected)
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    metadata = header["__metadata__"]
    assert list(metadata) == ["format", "toolkit_crc32"] and metadata["format"] == "pt"
    digits = metadata["toolkit_crc32"].encode()
    assert digits == b"%08x" % zlib.crc32(path.read_bytes().replace(digits, b"00000000", 1))
    assert is_intact(path)
    assert list(tmp_path.iterdir()) == [path]


def test_no_changed_byte_of_a_safetensors_file_passes(tmp_path):
    path = tmp_path / "a.safetensors"
    probe("safetensors", path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert not is_intact(path), place
    path.write_bytes(whole[:-1])
    assert not is_intact(path)


def test_state_is_read_back_exactly(tmp_path):
    path = tmp_path / "state.bin"
    probe("state", "save", path, 5)
    assert probe("state", "load", path, 5).split() == [b"5", b"42", b"0.1"]
    assert b"differs" in probe("state", "load", path, 6, fails=True)


def test_any_damage_to_the_state_is_noticed(tmp_path):
    path = tmp_path / "state.bin"
    probe("state", "save", path, 5)
    whole = path.read_bytes()
    for at in [*range(0, 100, 9), 2000, len(whole) // 2, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        assert b"is damaged" in probe("state", "load", path, 5, fails=True), at
    for size in (0, 50, len(whole) - 4, len(whole) - 8):
        path.write_bytes(whole[:size])
        assert b"is damaged" in probe("state", "load", path, 5, fails=True), size
    path.write_bytes(whole + b"12345678")
    assert b"is damaged" in probe("state", "load", path, 5, fails=True)


def test_a_state_of_the_version_before_is_refused_as_such(tmp_path):
    path = tmp_path / "state.bin"
    for version in (1, 2):
        head = b"TKSTATE\0" + version.to_bytes(4, "little") + bytes(100)
        path.write_bytes(head + zlib.crc32(head).to_bytes(4, "little"))
        said = probe("state", "load", path, 5, fails=True).decode()
        assert f"has version {version}, this runtime reads 3. Resume with the runtime that" in said


@pytest.mark.parametrize("offset", [0, 1, 7])
def test_checksums_are_those_of_zlib(offset):
    random = np.random.default_rng(0)
    lengths = [0, 1, 7, 8, 15, 16, 17, 63, 64, 65, 127, 128, 129, 191, 192, 200, 1000, 70_001]
    for length in lengths:
        data = random.bytes(length)
        values = [int(word) for word in probe("crc32", offset, stdin=data).split()]
        assert values == [zlib.crc32(data)] * 3, length


def test_numbers_that_are_none_are_found_wherever_they_stand():
    largest = float(np.finfo(np.float32).max)
    values = np.random.default_rng(0).normal(size=9001).astype(np.float32)
    values[:4] = [largest, -largest, 1e-45, -0.0]
    assert probe("finite", len(values), stdin=values.tobytes()).strip() == b"1"
    for at, value in [(0, np.nan), (4095, np.inf), (4096, -np.inf), (9000, np.nan)]:
        bad = values.copy()
        bad[at] = value
        assert probe("finite", len(bad), stdin=bad.tobytes()).strip() == b"0", (at, value)


@pytest.mark.parametrize("text", ["plain", 'quote " and \\', "tab\tline\n", "ü€🙂", "\x01\x1f", ""])
def test_texts_and_numbers_become_json(text):
    assert json.loads(probe("json", text, 0.1)) == {"text": text, "number": 0.1}


def test_invalid_text_and_numbers_become_valid_json():
    assert json.loads(probe("json", b"a\xff\xc3".decode("utf-8", "surrogateescape"), "nan")) == {
        "text": "a\ufffd\ufffd",
        "number": None,
    }


def test_a_weight_without_data_is_refused():
    assert probe("null-codes") == b"refused\n"
