"""What changed after it was exported or made is found, and numbers that are none are named."""

import shutil

import pytest
from safetensors.torch import load_file

from tests.oracle.rows import mixed_rows
from tests.runtime.cases import SEQ_LENS, TOGETHER, VOCAB
from tests.runtime.engine.training.test_errors import rewrite, rewrite_base
from tests.runtime.running import error_of, records, run
from tests.support.bundles import export_tiny
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.bundle.identity import write_identity
from toolkit.data.dataset import write_rows

MINE = {"name": "SmolLM2", "sha256": "11" * 32}
OTHER = {"name": "Qwen2.5", "sha256": "22" * 32}


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def flip_in(path, name, share=0.5):
    """Change one byte of a tensor, so far behind its start."""
    reader = FlatTensorReader(path)
    nbytes = reader.spec(name).nbytes
    flip(path, reader.offset(name) + min(int(share * nbytes), nbytes - 1))


def commands(case, bundle, tmp_path):
    """Return every command with its options, on another bundle than the case's."""
    files = {"bundle": bundle, "data": case.data, "adapter": case.adapter, "threads": 2}
    yield "train", {**files, "out": tmp_path / "run", "steps": 2}
    yield "evaluate", files
    yield "gradients", {**files, "out": tmp_path / "g.safetensors", "samples": "0,1"}


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        ("layers.1.mlp.down_proj.codes", "layer 1 mlp.down_proj"),
        ("layers.2.self_attn.q_proj.scale", "layer 2 self_attn.q_proj"),
        ("layers.0.input_layernorm.weight", "layer 0 input_layernorm"),
        ("norm.weight", "norm"),
        ("embed_tokens.codes", "embed_tokens"),  # the last row, which no sample has
    ],
)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_weight_that_changed_on_the_device_is_named(make_case, tmp_path, tensor, what, tied):
    case = make_case("llama", tied)
    bundle = tmp_path / "bundle"
    shutil.copytree(case.bundle, bundle)
    flip_in(bundle / "base.ptd", tensor, share=1)
    message = f"base.ptd: {what} is damaged on this device. Deploy the bundle again"
    for command, options in commands(case, bundle, tmp_path):
        assert message in error_of(command, **options), command
    assert records(tmp_path / "run", "end")[0]["steps"] == 0
    assert not (tmp_path / "g.safetensors").exists()


def test_damage_on_the_way_keeps_the_state(case, bundle_copy, tmp_path):
    out = case.train(tmp_path / "run", bundle=bundle_copy, steps=2)
    before = (out / "state.bin").read_bytes()
    flip_in(bundle_copy / "base.ptd", "layers.2.mlp.up_proj.codes")
    options = case.options(out, bundle=bundle_copy, steps=4, resume=True)
    message = error_of("train", **options)
    assert "layer 2 mlp.up_proj is damaged" in message
    assert "the state of step 2 is kept" in message
    assert (out / "state.bin").read_bytes() == before
    shutil.copy(case.bundle / "base.ptd", bundle_copy)
    run("train", **options)
    assert records(out, "end")[-1]["steps"] == 4


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("programs.pte", "programs.pte is damaged or of another export. Deploy the bundle again"),
        ("adapter.ptd", "adapter.ptd: layers.0.self_attn.q_proj.lora_A.weight is damaged"),
        ("identity.ptd", "identity.ptd: base.sha256 is damaged. Deploy the bundle again"),
    ],
)
def test_other_files_are_checked_before_they_are_used(case, bundle_copy, tmp_path, file, what):
    path = bundle_copy / file
    if file == "programs.pte":
        flip(path, path.stat().st_size // 2)
    else:
        flip_in(path, what.split(": ")[1].split(" ")[0])
    for command, options in commands(case, bundle_copy, tmp_path):
        assert what in error_of(command, **{**options, "adapter": None}), command


def test_a_damaged_sample_is_found_though_its_numbers_are_possible(case, tmp_path):
    data = tmp_path / "data.ptd"
    rows = mixed_rows(SEQ_LENS[0], VOCAB, seed=1)
    write_rows(data, rows)
    place = FlatTensorReader(data).offset("tokens")
    content = bytearray(data.read_bytes())
    content[place] ^= 1  # one token for its neighbour
    data.write_bytes(content)
    message = error_of("train", **case.options(tmp_path / "run", data=data))
    assert "data.ptd: tokens is damaged. Make or deploy the data again" in message


def test_parts_of_two_exports_do_not_mix(case, bundle_copy, tmp_path):
    other = export_tiny(
        tmp_path / "other", "llama", layers=3, seq_lens=(*SEQ_LENS, TOGETHER), seed=2
    )
    for name, source in [("base.ptd", other / "base.ptd"), ("adapter.ptd", case.adapter)]:
        shutil.copy(source, bundle_copy / name)
        options = case.options(tmp_path / "run", bundle=bundle_copy, adapter=None)
        message = error_of("train", **options)
        assert f"{name} is of another export than the rest" in message
        shutil.copy(case.bundle / name, bundle_copy)


def test_files_of_an_older_version_are_refused_as_such(case, bundle_copy, tmp_path):
    (bundle_copy / "identity.ptd").unlink()
    options = case.options(tmp_path / "run", bundle=bundle_copy)
    assert "an older version made it. Export it again" in error_of("train", **options)
    old = tmp_path / "old.ptd"
    # As it was written then: without the two tensors behind the others.
    old.write_bytes(case.data.read_bytes().replace(b"checksums", b"something"))
    message = error_of("train", **case.options(tmp_path / "run", data=old))
    assert "old.ptd has no checksums: an older version wrote it" in message


@pytest.mark.parametrize(
    ("of_bundle", "of_data", "what"),
    [
        (MINE, MINE, None),
        (MINE, OTHER, "was made with the tokenizer of Qwen2.5, "),
        (MINE, None, "was made of random tokens for another, "),
        (None, OTHER, None),
        (None, None, None),
    ],
)
def test_data_of_another_tokenizer_is_refused(
    case, bundle_copy, tmp_path, of_bundle, of_data, what
):
    files = [bundle_copy / name for name in ("programs.pte", "base.ptd", "adapter.ptd")]
    write_identity(bundle_copy / "identity.ptd", *files, of_bundle)
    data = tmp_path / "data.ptd"
    write_rows(data, mixed_rows(SEQ_LENS[0], VOCAB, seed=1), of_data)
    options = case.options(tmp_path / "run", bundle=bundle_copy, eval_data=data, data=data)
    if what is None:
        run("train", **options)
        return
    message = error_of("train", **options)
    assert f"data {data} {what}bundle {bundle_copy} has the tokenizer of SmolLM2" in message
    assert "toolkit data FILE --tokenizer BUNDLE" in message
    assert "was made" in error_of("evaluate", bundle=bundle_copy, data=data)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_an_adapter_that_is_not_finite_is_refused_by_its_first_tensor(case, tmp_path, value):
    path = tmp_path / "adapter.ptd"
    shutil.copy(case.adapter, path)
    name = "layers.1.self_attn.k_proj.lora_A.weight"

    def spoil(tensors):
        tensors[name][2, 5] = value

    rewrite(path, spoil)
    files = {"bundle": case.bundle, "data": case.data, "adapter": path}
    message = error_of("evaluate", **files)
    assert f"{name} holds numbers that are not finite" in message
    assert name in error_of("train", **files, out=tmp_path / "run", steps=1)
    assert name in error_of("gradients", **files, out=tmp_path / "g", samples="0")


def test_the_first_layer_whose_output_is_not_finite_is_named(case, tmp_path):
    path = tmp_path / "adapter.ptd"
    shutil.copy(case.adapter, path)

    def enlarge(tensors):
        for part in "AB":
            tensors[f"layers.1.self_attn.o_proj.lora_{part}.weight"] *= 1e25

    rewrite(path, enlarge)
    files = {"bundle": case.bundle, "data": case.data, "adapter": path}
    for command, more in [
        ("evaluate", {}),
        ("train", {"out": tmp_path / "run", "steps": 1}),
        ("gradients", {"out": tmp_path / "g", "samples": "0"}),
    ]:
        message = error_of(command, **files, **more)
        assert "the output of layer 1 is not finite" in message, command


def test_an_evaluation_without_a_finite_loss_fails(case, bundle_copy):
    rewrite_base(bundle_copy, lambda tensors: tensors["norm.weight"].mul_(3e38))
    message = error_of("evaluate", bundle=bundle_copy, data=case.data, adapter=case.adapter)
    assert "the loss is not finite" in message


def test_an_update_that_is_not_finite_is_never_saved(case, tmp_path):
    out = tmp_path / "run"
    # The first step multiplies the adapter by -1e6, then by 1e12 ... until float32 ends.
    options = {"optimizer": "sgd", "lr": 1000, "weight_decay": 1000, "save_every": 1, "steps": 50}
    message = error_of("train", **case.options(out, **options))
    assert "is not finite" in message
    for name, tensor in load_file(out / "adapter_model.safetensors").items():
        assert tensor.isfinite().all(), name
