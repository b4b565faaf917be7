"""One adapter of many, against the products themselves."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from toolkit.bundle.flat_tensor import TensorSpec
from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.errors import ToolkitError
from toolkit.federation.aggregation import (
    AGGREGATORS,
    AdapterFolder,
    ProductBias,
    Reply,
    nearest,
    pairs_of,
)

SHAPES = {"layers.0.q_proj": (12, 20), "layers.1.down_proj": (30, 9)}
RANK = 3
SPECS = [
    TensorSpec(f"{name}.lora_{letter}.weight", shape, torch.float32)
    for name, (out, wide) in SHAPES.items()
    for letter, shape in (("A", (RANK, wide)), ("B", (out, RANK)))
]
WEIGHTS = (7, 1, 3000)


def write(folder, values):
    folder.mkdir(parents=True, exist_ok=True)
    named = {PEFT_PREFIX + name: np.ascontiguousarray(v, np.float32) for name, v in values.items()}
    save_file(named, folder / "adapter_model.safetensors")
    return folder


def draw(seed, frozen=None):
    random = np.random.default_rng(seed)
    made = {spec.name: random.standard_normal(spec.shape).astype(np.float32) for spec in SPECS}
    return made | {n: v for n, v in (frozen or {}).items() if ".lora_A." in n}


@pytest.fixture
def start(tmp_path):
    return write(tmp_path / "start", draw(0))


def aggregate(name, start, adapters, tmp_path, weights=WEIGHTS):
    """Return the aggregate's tensors, and its bias."""
    made = AGGREGATORS[name](SPECS, start)
    for number, (values, weight) in enumerate(zip(adapters, weights, strict=True)):
        made.add(Reply(str(number), write(tmp_path / str(number), values), weight))
    result = dict(made.tensors())
    return result, made.bias(write(tmp_path / "result", result))


def products(values):
    return {b: values[b].astype(np.float64) @ values[a] for a, b in pairs_of(SPECS)}


def mean_of_products(adapters, weights=WEIGHTS):
    each = [products(values) for values in adapters]
    return {
        name: sum(p[name] * w for p, w in zip(each, weights, strict=True)) / sum(weights)
        for name in each[0]
    }


def distance(result, adapters):
    """Return the relative distance of a product from the mean of products, over all of them."""
    own, wanted = products(result), mean_of_products(adapters)
    far = sum(np.sum((own[n] - wanted[n]) ** 2) for n in wanted)
    return np.sqrt(far / sum(np.sum(wanted[n] ** 2) for n in wanted))


def test_fedavg_is_the_mean_by_weight(start, tmp_path):
    adapters = [draw(seed) for seed in (1, 2, 3)]
    result, _ = aggregate("fedavg", start, adapters, tmp_path)
    for spec in SPECS:
        exact = np.average([a[spec.name].astype(np.float64) for a in adapters], 0, WEIGHTS)
        assert np.abs(result[spec.name] - exact).max() <= np.finfo(np.float32).eps * 4


@pytest.mark.parametrize("weights", [(5,), WEIGHTS, (2**28, 3, 2**28 - 1)])
def test_equal_adapters_have_themselves_as_mean_to_the_bit(start, tmp_path, weights):
    values = draw(5)
    values[SPECS[1].name][:2] = [[-0.0] * RANK, [0.0] * RANK]
    result, bias = aggregate("fedavg", start, [values] * len(weights), tmp_path, weights)
    assert all(result[n].tobytes() == v.tobytes() for n, v in values.items())
    assert bias < 1e-12


def test_the_mean_of_factors_is_not_the_mean_of_products_and_it_is_said(start, tmp_path):
    adapters = [draw(seed) for seed in (1, 2, 3)]
    result, told = aggregate("fedavg", start, adapters, tmp_path, (1, 1, 1))
    wanted = mean_of_products(adapters, (1, 1, 1))
    own = products(result)
    far = sum(np.sum((own[n] - wanted[n]) ** 2) for n in wanted)
    exact = np.sqrt(far / sum(np.sum(v**2) for v in wanted.values()))
    assert exact > 0.5 and told == pytest.approx(exact, rel=0.25)
    bias = ProductBias(SPECS, probes=4000)
    for values in adapters:
        bias.add(values.__getitem__, 1)
    assert bias.of(result.__getitem__, 3) == pytest.approx(exact, rel=0.02)


def test_ffa_is_the_mean_of_products(start, tmp_path):
    adapters = [draw(seed, frozen=draw(0)) for seed in (1, 2, 3)]
    result, told = aggregate("ffa", start, adapters, tmp_path)
    assert distance(result, adapters) < 1e-6 and told < 1e-6
    assert all(result[n].tobytes() == v.tobytes() for n, v in draw(0).items() if "lora_A" in n)


def test_ffa_refuses_another_a_and_counts_nothing_of_it(start, tmp_path):
    good = [draw(seed, frozen=draw(0)) for seed in (1, 2)]
    made = AGGREGATORS["ffa"](SPECS, start)
    made.add(Reply("0", write(tmp_path / "0", good[0]), 7))
    with pytest.raises(ToolkitError, match=r"it changed layers.0.q_proj.lora_A"):
        made.add(Reply("x", write(tmp_path / "x", draw(9)), 5))
    with pytest.raises(ToolkitError, match="not finite"):
        bad = good[1] | {SPECS[3].name: np.full(SPECS[3].shape, np.nan)}
        made.add(Reply("y", write(tmp_path / "y", bad), 5))
    with pytest.raises(ToolkitError, match="no labelled tokens"):
        made.add(Reply("z", write(tmp_path / "z", good[1]), 0))
    made.add(Reply("1", write(tmp_path / "1", good[1]), 1))
    result = dict(made.tensors())
    wanted, _ = aggregate("ffa", start, good, tmp_path / "again", (7, 1))
    assert all(result[n].tobytes() == v.tobytes() for n, v in wanted.items())


def test_stack_is_the_nearest_of_its_rank(start, tmp_path):
    """As far from the mean of products as the singular values that do not fit are."""
    adapters = [draw(seed) for seed in (1, 2, 3)]
    result, told = aggregate("stack", start, adapters, tmp_path)
    wanted = mean_of_products(adapters)
    left = sum(np.sum(np.linalg.svd(v, compute_uv=False)[RANK:] ** 2) for v in wanted.values())
    least = np.sqrt(left / sum(np.sum(v**2) for v in wanted.values()))
    assert distance(result, adapters) == pytest.approx(least, rel=1e-4)
    assert told == pytest.approx(least, rel=0.3)
    same, _ = aggregate("stack", start, [draw(4)] * 3, tmp_path / "same")
    assert distance(same, [draw(4)] * 3) < 1e-6


def test_what_has_no_weight_in_b_can_still_be_learned():
    """B of zeros, as it begins: A's rows stay as long as they were, and orthogonal."""
    a = draw(1)[SPECS[0].name].astype(np.float64)
    down, up = nearest(a, np.zeros((12, RANK)), RANK)
    assert not up.any() and down.shape == a.shape
    gram = down @ down.T
    assert np.allclose(gram, np.eye(RANK) * np.mean(np.sum(a * a, 1)))


def test_an_adapter_of_another_shape_is_refused(tmp_path):
    values = draw(1)
    values[SPECS[0].name] = np.zeros((RANK + 1, 20))
    with pytest.raises(ToolkitError, match=r"another .*layers.0.q_proj.lora_A"):
        AdapterFolder(write(tmp_path / "x", values), SPECS)


def test_memory_does_not_grow_with_replies(start, tmp_path):
    """What a mean holds is the same after one reply and after many."""
    import tracemalloc

    made = AGGREGATORS["fedavg"](SPECS, start)
    made.add(Reply("0", write(tmp_path / "0", draw(0)), 1))
    tracemalloc.start()
    for number in range(50):
        made.add(Reply("0", tmp_path / "0", number + 1))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 25 * sum(spec.nbytes for spec in SPECS)
