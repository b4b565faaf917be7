"""Merged GGUF files: untouched but for what the adapter changes, and llama.cpp's word on them."""

import gguf
import numpy as np
import pytest
import torch

from tests.exchange.test_gguf_adapter import TOKENS, compare, model_for_llama_cpp
from tests.support.adapters import logits_of, save_adapter
from tests.support.llama_cpp import llama_cpp_logits
from tests.support.models import plain_model, write_gguf
from toolkit.errors import ToolkitError
from toolkit.exchange.base import Base, find_base
from toolkit.exchange.gguf_adapter import write_gguf_adapter
from toolkit.exchange.gguf_blocks import KINDS, SCHEME_OF, encode, kind_of
from toolkit.exchange.gguf_model import merge_to_gguf
from toolkit.exchange.output import MERGED
from toolkit.quantization.schemes import quantize
from toolkit.sources import open_source


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_hold_what_the_schemes_chose(kind):
    rows = torch.randn(37, 96, generator=torch.Generator().manual_seed(1))
    data = encode(rows, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind_of(kind)]
    assert data.dtype == np.uint8 and data.shape == (37, 96 // block * size)
    read = torch.from_numpy(gguf.quants.dequantize(data, kind_of(kind)))
    scheme = SCHEME_OF.get(kind)
    dtypes = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    wanted = quantize(rows, scheme).dequantize()[:37] if scheme else rows.to(dtypes[kind]).float()
    # The gguf package multiplies and adds in float32 as we do: to the last bit.
    assert torch.equal(read, wanted)


def tensors(path):
    reader = gguf.GGUFReader(path)
    return reader, {t.name: (t.tensor_type.name, t.data.tobytes()) for t in reader.tensors}


def merged_values(with_adapter):
    merged = with_adapter.merge_and_unload()
    return dict(merged.named_parameters())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "phi3"])
def test_whole_model(tmp_path, family):
    base = tmp_path / "base.gguf"
    model = model_for_llama_cpp(family)
    write_gguf(base, model, "F32", "F32")
    with_adapter = save_adapter(tmp_path / "adapter", model, base=str(base))
    expected = logits_of(with_adapter, TOKENS)
    found = find_base(tmp_path / "adapter", str(base))
    result = merge_to_gguf(tmp_path / "adapter", tmp_path / "merged.gguf", found, "f32")
    assert result.original and result.kind == "f32"
    values = merged_values(with_adapter)
    again = open_source(str(tmp_path / "merged.gguf"))
    for name, value in values.items():
        tolerance = 8 * torch.finfo(torch.float32).eps * value.abs().amax()
        assert ((again.read(name) - value).abs() <= tolerance).all(), name
    assert again.config.to_dict() == found.source.config.to_dict()
    # The same weights in a file that llama.cpp takes without words.
    write_gguf(tmp_path / "plain.gguf", model, "F32", "F32", vocabulary=False)
    _without_words(tmp_path / "plain.gguf", tmp_path / "merged.gguf")
    actual = llama_cpp_logits(tmp_path / "plain.gguf", TOKENS)
    compare(actual, expected, logits_of(model, TOKENS), 1e-3)


def _without_words(plain, merged):
    """Put the merged tensors into a file without a vocabulary: both have them in one order."""
    target, source = gguf.GGUFReader(plain, "r+"), gguf.GGUFReader(merged)
    for mine, theirs in zip(target.tensors, source.tensors, strict=True):
        assert (mine.name, mine.tensor_type) == (theirs.name, theirs.tensor_type)
        mine.data[:] = theirs.data


@pytest.mark.parametrize("kind", ["q8_0", "q4_1", "f16"])
def test_only_what_the_adapter_changes_is_written_anew(tmp_path, kind):
    base = tmp_path / "base.gguf"
    model = plain_model("llama")
    write_gguf(base, model, "Q4_1", "Q8_0")
    options = {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]}
    save_adapter(tmp_path / "adapter", model, **options)
    found = find_base(tmp_path / "adapter", str(base))
    merge_to_gguf(tmp_path / "adapter", tmp_path / "merged.gguf", found, kind)
    (reader, before), (again, after) = tensors(base), tensors(tmp_path / "merged.gguf")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"blk.1.attn_q.weight", "blk.1.ffn_down.weight"} and list(after) == [*before]
    assert {after[name][0] for name in changed} == {kind.upper()}
    fields = [{n: f.contents() for n, f in r.fields.items()} for r in (reader, again)]
    own = {MERGED, *(name for name in fields[0] if name.startswith("GGUF."))}
    assert [(n, v) for n, v in fields[0].items() if n not in own] == [
        (n, v) for n, v in fields[1].items() if n not in own
    ]


def test_merged_weights_are_close_in_every_type(tmp_path):
    """Half, 8 and 4 bits: the error that each type has on any weight."""
    base = tmp_path / "base.gguf"
    write_gguf(base, plain_model("llama"), "Q4_1", "Q8_0")
    source = open_source(str(base))
    model = plain_model("llama")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source.read(name))
    with_adapter = save_adapter(tmp_path / "adapter", model, size=0.05)
    values = merged_values(with_adapter)
    for kind, bar in (("f16", 5e-4), ("q8_0", 0.01), ("q4_1", 0.12)):
        merge_to_gguf(tmp_path / "adapter", tmp_path / "m.gguf", Base(source, True), kind)
        again = open_source(str(tmp_path / "m.gguf"))
        for name, value in values.items():
            error = (again.read(name) - value).norm() / value.norm()
            assert error < bar, (kind, name, error)


def test_what_is_refused(tmp_path):
    save_adapter(tmp_path / "adapter", plain_model("qwen2"))
    base = tmp_path / "base.gguf"
    write_gguf(base, plain_model("qwen2"))
    content = base.read_bytes()
    found = find_base(tmp_path / "adapter", str(base))
    with pytest.raises(ToolkitError, match="is the base model itself"):
        merge_to_gguf(tmp_path / "adapter", base, found)
    assert base.read_bytes() == content and not (tmp_path / "m.gguf").exists()
    write_gguf(tmp_path / "m.gguf", plain_model("llama"))  # somebody's
    content = (tmp_path / "m.gguf").read_bytes()
    with pytest.raises(ToolkitError, match="exists and was not written by this command"):
        merge_to_gguf(tmp_path / "adapter", tmp_path / "m.gguf", found)
    with pytest.raises(ToolkitError, match="exists and was not written by this command"):
        write_gguf_adapter(tmp_path / "adapter", tmp_path / "m.gguf", found.source.config, "tiny")
    assert (tmp_path / "m.gguf").read_bytes() == content
    partial = plain_model("qwen2")
    shorter = partial.state_dict
    partial.state_dict = lambda: {n: v for n, v in shorter().items() if "1.mlp.up" not in n}
    write_gguf(tmp_path / "part.gguf", partial)
    source = open_source(str(tmp_path / "part.gguf"))
    with pytest.raises(ToolkitError, match=r"lacks blk\.1\.ffn_up\.weight, which the adapter"):
        merge_to_gguf(tmp_path / "adapter", tmp_path / "new.gguf", Base(source, True))
    assert not (tmp_path / "new.gguf").exists()
