"""Hugging Face directories: every value arrives, everything odd is refused with a name."""

import json
import struct

import pytest
import torch

from tests.support.models import save_model
from toolkit.errors import ToolkitError
from toolkit.planning.model import load_config
from toolkit.sources import hub, open_source
from toolkit.sources.safetensors_file import SafetensorsFile


@pytest.mark.parametrize(
    ("family", "tied", "shard"), [("llama", True, "5GB"), ("qwen2", False, "60KB")]
)
def test_every_parameter_is_read(tmp_path, family, tied, shard):
    model = save_model(tmp_path, family, shard, tied=tied)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard != "5GB")
    source = open_source(str(tmp_path))
    for name, value in model.named_parameters():
        assert source.shape(name) == tuple(value.shape)
        assert torch.equal(source.read(name), value), name
        if value.ndim == 2:
            assert torch.equal(source.rows(name, 3, 17), value[3:17]), name
    assert source.shape("lm_head.weight") == (None if tied else (150, 64))
    assert source.config.to_dict()["rope_parameters"] == model.config.rope_parameters
    assert not source.can_take_over("model.embed_tokens.weight", "int8")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(tmp_path, dtype):
    from tests.support.models import tiny_model

    model = tiny_model("llama").to(dtype)
    model.save_pretrained(tmp_path)
    source = open_source(str(tmp_path))
    for name, value in model.named_parameters():
        assert torch.equal(source.read(name), value.float()), name


def test_a_width_that_is_null_is_one_clear_message(tmp_path):
    """Phi-3's class takes it as it is and fails."""
    save_model(tmp_path, "phi3")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "head_dim": None}))
    with pytest.raises(ToolkitError, match=r"cannot be used: .*head_dim is null there: leave it"):
        open_source(str(tmp_path))
    with pytest.raises(ToolkitError, match=r"has no configuration that can be used: .*NoneType"):
        load_config(tmp_path)


def test_license_and_tokenizer(tmp_path):
    from tests.support.chatml import SMOLLM2, make_tokenizer

    save_model(tmp_path / "model", "llama")
    assert not open_source(str(tmp_path / "model")).save_tokenizer(tmp_path / "none")
    tokenizer = make_tokenizer(SMOLLM2)
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\ntags: [x]\nlicense: 'mit'\n---\n# A\n")
    source = open_source(str(tmp_path / "model"))
    assert source.license == "mit"
    assert source.save_tokenizer(tmp_path / "saved")
    from transformers import AutoTokenizer

    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    text = "hello there, how are you?"
    assert saved(text).input_ids == tokenizer(text).input_ids
    assert saved.chat_template == tokenizer.chat_template


def test_rotary_settings_as_older_checkpoints_write_them(tmp_path):
    save_model(tmp_path, "llama")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    old = {"rope_theta": 500000.0, "rope_scaling": scaling, "torch_dtype": "bfloat16"}
    path.write_text(json.dumps({**config, **old}))
    rope = open_source(str(tmp_path)).config.rope_parameters
    assert rope == {**scaling, "rope_theta": 500000.0}


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def drop_index_entry(folder):
    path = folder / "model.safetensors.index.json"
    path.write_text("{}")


def name_outside_file(folder):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name = next(iter(index["weight_map"]))
    index["weight_map"][name] = "../other.safetensors"
    path.write_text(json.dumps(index))


def remove_shard(folder):
    next(folder.glob("model-0000*.safetensors")).unlink()


def cut_shard(folder):
    path = next(folder.glob("model-0000*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: change_config(f, model_type="gpt2"), "'gpt2' is not supported.*llama, .*qwen2"),
        (lambda f: change_config(f, quantization_config={"quant_method": "gptq"}), "gptq"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (drop_index_entry, "not a valid index"),
        (name_outside_file, "outside the directory"),
        (remove_shard, "is missing"),
        (cut_shard, "not a complete safetensors file"),
    ],
)
def test_damaged_or_unsupported_directories(tmp_path, damage, message):
    save_model(tmp_path, "llama", "60KB")
    damage(tmp_path)
    with pytest.raises(ToolkitError, match=message):
        open_source(str(tmp_path))


def test_only_pickled_weights(tmp_path):
    save_model(tmp_path, "llama")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ToolkitError, match="safe_serialization"):
        open_source(str(tmp_path))


def test_missing_tensor_is_named(tmp_path):
    save_model(tmp_path, "llama")
    with pytest.raises(ToolkitError, match=r"model\.layers\.9\.x"):
        open_source(str(tmp_path)).read("model.layers.9.x")


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 80]}},
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"x": {"dtype": "F32", "data_offsets": [0, 8]}},
        {"x": 3},
        ["x"],
    ],
)
def test_bad_safetensors_headers(tmp_path, header):
    text = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(ToolkitError, match="not a complete safetensors file"):
        SafetensorsFile(path)


def test_integer_tensors_are_refused_when_read(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.arange(4)}, tmp_path / "a.safetensors")
    with pytest.raises(ToolkitError, match="I64"):
        SafetensorsFile(tmp_path / "a.safetensors").rows("x", 0, 4)


@pytest.mark.parametrize("name", ["nothing", "a/b/c", "./nothing", "a/b.gguf", ""])
def test_what_is_not_a_model(name):
    with pytest.raises(ToolkitError):
        open_source(name)


def test_hub_errors_are_one_line(monkeypatch):
    def fail(*_arguments, **_options):
        raise ConnectionError("no route to host\nat line 3")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ToolkitError, match="Cannot download a/b: no route to host") as error:
        open_source("a/b")
    assert "\n" not in str(error.value)


def test_hub_download_is_used(tmp_path, monkeypatch):
    folder = tmp_path / "snapshots" / "abc123"
    save_model(folder, "qwen2")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_a, **_k: str(folder))
    source = open_source("owner/tiny-model")
    assert (source.name, source.revision) == ("owner/tiny-model", "abc123")
    assert hub.is_hub_id("Qwen/Qwen2.5-0.5B-Instruct")
    assert not hub.is_hub_id("../x") and not hub.is_hub_id("a b/c")
