"""Random weights: seeded, the same however they are read, and of the promised distribution."""

import torch

from tests.support.tiny import tiny_config
from toolkit.bundle.layout import parameter_shapes
from toolkit.sources.random import RandomSource

NAME = "model.layers.0.mlp.gate_proj.weight"


def make(seed=0, **changes):
    config = tiny_config("qwen2")
    for name, value in changes.items():
        setattr(config, name, value)
    return RandomSource(config, parameter_shapes(config), "tiny", seed)


def test_rows_do_not_depend_on_how_they_are_read():
    source = make(vocab_size=1000)
    whole = source.read("model.embed_tokens.weight")
    for begin, end in [(0, 1000), (0, 16), (250, 260), (255, 257), (512, 768), (990, 1000)]:
        assert torch.equal(source.rows("model.embed_tokens.weight", begin, end), whole[begin:end])


def test_seed_and_name_decide():
    assert torch.equal(make(3).read(NAME), make(3).read(NAME))
    assert not torch.equal(make(3).read(NAME), make(4).read(NAME))
    assert not torch.equal(make(3).read(NAME), make(3).read(NAME.replace("gate", "up")))
    blocks = make(vocab_size=512).read("model.embed_tokens.weight").split(256)
    assert not torch.equal(*blocks)


def test_distribution():
    weight = make(hidden_size=1024, intermediate_size=512).read(NAME)
    count = weight.numel()
    # Five standard errors of the mean and of the standard deviation of `count` normal numbers.
    assert abs(weight.mean()) < 5 * 0.02 / count**0.5
    assert abs(weight.std() - 0.02) < 5 * 0.02 / (2 * count) ** 0.5
    norm = make().read("model.norm.weight")
    assert abs(norm.mean() - 1) < 5 * 0.1 / len(norm) ** 0.5
    assert make().read("model.layers.0.self_attn.q_proj.bias").abs().max() > 0


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make().read(NAME)
    assert torch.equal(torch.rand(3), expected)
