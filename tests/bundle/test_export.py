"""Exports of tiny models: what is in a bundle, and that it is complete or absent."""

import json
import math
import zlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.bundles import export_tiny
from tests.support.chatml import QWEN2, make_tokenizer
from tests.support.models import save_model, tiny_model, write_gguf
from tests.support.tiny import relative_error, tiny_config
from toolkit.bundle import manifest as manifests
from toolkit.bundle.adapter import LoraSettings, initial_adapter
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.bundle.layout import adapter_specs, base_parts, parameter_shapes
from toolkit.bundle.weights import quantize_part
from toolkit.cli.export import left_out_line, weights_line
from toolkit.errors import ToolkitError
from toolkit.lora import PROJECTIONS
from toolkit.programs import build_programs, program_functions
from toolkit.quantization.schemes import quantize
from toolkit.sources import open_source
from toolkit.sources.huggingface import HuggingFaceSource
from toolkit.sources.random import RandomSource

LORA = LoraSettings(4, 8.0, PROJECTIONS)


def random_source(family="llama", **changes):
    config = tiny_config(family)
    for name, value in changes.items():
        setattr(config, name, value)
    return RandomSource(config, parameter_shapes(config), "tiny", 0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A Qwen2 model with an untied head in shards, exported for two lengths."""
    folder = tmp_path_factory.mktemp("export")
    model = save_model(folder / "model", "qwen2", "60KB", tied=False)
    make_tokenizer(QWEN2).save_pretrained(folder / "model")
    (folder / "model" / "README.md").write_text("---\nlicense: mit\n---\n")
    settings = ExportSettings(LORA, (24, 7, 24), seed=3)
    manifest = export_bundle(open_source(str(folder / "model")), folder / "bundle", settings)
    return model, Bundle.open(folder / "bundle"), manifest


def test_every_weight_is_quantized_as_the_scheme_does(exported):
    model, bundle, _ = exported
    bundle.check_hashes()
    parameters = dict(bundle.parameters())
    assert set(parameters) == set(dict(model.named_parameters()))
    for name, value in model.named_parameters():
        got = parameters[name]
        if value.ndim == 1:
            assert torch.equal(got, value), name
            continue
        scheme = "int8" if "embed_tokens" in name or "lm_head" in name else "int4"
        expected = quantize(value, scheme).dequantize()[: len(value)]
        assert torch.equal(got, expected), name


def test_a_system_that_does_not_say_its_cores_exports_too(tmp_path, monkeypatch):
    """macOS has no sched_getaffinity."""
    monkeypatch.delattr("os.sched_getaffinity")
    export_tiny(tmp_path / "bundle", "llama", layers=1).stat()


def test_the_report_holds_the_true_errors(exported):
    model, bundle, _ = exported
    parameters, sources = dict(bundle.parameters()), dict(model.named_parameters())
    report = {entry["name"]: entry for entry in bundle.manifest["quantization"]["tensors"]}
    assert len(report) == 2 + 7 * model.config.num_hidden_layers
    for name, value in sources.items():
        if value.ndim == 1:
            continue
        entry = report[name.removeprefix("model.").removesuffix(".weight")]
        expected = relative_error(parameters[name], value)
        assert entry["relative_error"] == pytest.approx(expected, rel=1e-4), name
        assert entry["shape"] == list(value.shape) and not entry["taken_over"]


def test_bits_and_error_of_all_weights(exported):
    """Blocks of 5 bits a weight, embedding and head of 8.5, 150 rows padded to 160."""
    model, _, manifest = exported
    linear = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n)
    rows, padded = 2 * 150 * 64, 2 * 160 * 64
    found = manifest["quantization"]
    assert found["bits_per_weight"] == pytest.approx(
        (5 * linear + 8.5 * padded) / (linear + rows), rel=1e-12
    )
    errors = {entry["name"]: entry["relative_error"] for entry in found["tensors"]}
    sizes = {entry["name"]: math.prod(entry["shape"]) for entry in found["tensors"]}
    mean = sum(errors[name] * sizes[name] for name in errors) / sum(sizes.values())
    assert found["mean_error"] == pytest.approx(mean) and 0.01 < mean < 0.1
    assert weights_line(manifest).endswith(f"mean relative error {mean:.4f}")
    assert left_out_line(manifest) == ""


def test_a_file_of_blocks_says_what_it_kept(tmp_path):
    config = tiny_config("qwen2")
    config.vocab_size = 400
    path, settings = tmp_path / "tiny.gguf", ExportSettings(LORA, (8,))
    options = {"tokenizer": make_tokenizer(QWEN2)}
    write_gguf(path, tiny_model("qwen2", config=config), "Q4_0", "Q8_0", **options)
    manifest = export_bundle(open_source(str(path)), tmp_path / "bundle", settings)
    assert weights_line(manifest).endswith("as the file has them, bit by bit")
    kinds = {"blk.1.ffn_down.weight": "Q5_0"}
    write_gguf(path, tiny_model("qwen2", config=config), "Q4_0", "Q8_0", kinds, **options)
    manifest = export_bundle(open_source(str(path)), tmp_path / "bundle", settings)
    assert "; 14 of 15 tensors are as the file has them" in weights_line(manifest)


def test_order_and_alignment_of_the_base(exported):
    _, bundle, _ = exported
    keys = bundle.base.keys()
    first = [key.split(".")[0] for key in keys]
    blocks = [key.split(".")[1] for key in keys if key.startswith("layers.")]
    assert first == sorted(first, key=["embed_tokens", "rope", "layers", "norm", "lm_head"].index)
    assert blocks == sorted(blocks)
    assert all(bundle.base.offset(key) % 16384 == 0 for key in keys)


def test_programs_are_bound_to_tensors_of_the_bundle(exported):
    """Every base: and adapter: name of the programs exists with the shape that they expect."""
    model, bundle, manifest = exported
    programs = build_programs(
        model.config,
        seq_lens=[7, 24],
        lora=LoraSettings(4, 8.0, PROJECTIONS),
        lowering="mesp",
        schemes={kind: manifest["quantization"][kind] for kind in ("linear", "embedding", "head")},
        model_name="model",
    )
    assert bundle.programs_path.read_bytes() == programs.buffer
    assert set(manifest["methods"]) == set(programs.methods)
    schemes = {kind: manifest["quantization"][kind] for kind in ("linear", "embedding", "head")}
    functions = program_functions(
        model.config,
        seq_len=7,
        lora=LoraSettings(4, 8.0, PROJECTIONS),
        lowering="mesp",
        schemes=schemes,
    )
    seen = set()
    for function in functions:
        for binding in function.inputs:
            space, _, key = binding.name.partition(":")
            if not key:
                continue
            reader = bundle.base if space == "base" else bundle.adapter
            for layer in range(model.config.num_hidden_layers):
                spec = reader.spec(key.replace("{layer}", str(layer)))
                assert (spec.shape, spec.dtype) == (binding.shape, binding.dtype), binding.name
                seen.add((space, spec.name))
    stored = {("base", key) for key in bundle.base} | {("adapter", key) for key in bundle.adapter}
    assert seen == stored


def test_manifest_config_tokenizer_and_adapter(exported):
    model, bundle, manifest = exported
    assert bundle.manifest == json.loads(json.dumps(manifest))
    assert manifest["model"]["license"] == "mit"
    assert manifest["seq_lens"] == [7, 24]
    assert manifest["base"]["parameters"] == sum(p.numel() for p in model.parameters())
    names = {path.name for path in bundle.path.iterdir()}
    assert names == {*manifest["files"], manifests.NAME}
    config = bundle.config.to_dict()
    expected = model.config.to_dict()
    for name in ("rope_parameters", "vocab_size", "hidden_size", "tie_word_embeddings"):
        assert config[name] == expected[name]
    assert bundle.config.architectures == ["Qwen2ForCausalLM"]
    assert bundle.tokenizer().apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False
    )
    specs = adapter_specs(model.config, LORA)
    for spec, tensor in zip(specs, initial_adapter(specs, 3), strict=True):
        assert torch.equal(bundle.adapter.tensor(spec.name), tensor), spec.name
    assert manifest["lora"]["parameters"] == sum(
        tensor.numel() for tensor in initial_adapter(specs, 3)
    )
    sizes = manifest["base"]
    stored = sum(bundle.base.spec(key).nbytes for key in bundle.base)
    assert sizes["embedding"] + sum(sizes["blocks"]) + sizes["rest"] == stored


def test_the_reference_model_has_the_dequantized_weights(exported):
    model, bundle, _ = exported
    tokens = torch.arange(20).reshape(1, 20)
    reference = bundle.reference_model()
    expected = dict(bundle.parameters())
    for name, parameter in reference.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    with torch.no_grad():
        error = relative_error(reference(tokens).logits, model(tokens).logits)
    assert error < 0.5  # int4 weights: alike, not equal


def test_exports_are_reproducible(tmp_path, monkeypatch):
    monkeypatch.setattr("toolkit.bundle.export.build_programs", build_programs)
    for name in ("a", "b"):
        export_bundle(random_source(), tmp_path / name, ExportSettings(LORA, (8,)))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert Bundle.open(tmp_path / "a").manifest["model"]["random_weights"]
    with pytest.raises(ToolkitError, match="has no tokenizer"):
        Bundle.open(tmp_path / "a").tokenizer()


def test_an_older_bundle_is_replaced_and_nothing_else(tmp_path):
    target = tmp_path / "bundle"
    export_bundle(random_source(), target, ExportSettings(LORA, (8,)))
    export_bundle(random_source(), target, ExportSettings(LORA, (8,), seed=9))
    assert Bundle.open(target).manifest["lora"]["start"] == "seed 9"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("x")
    with pytest.raises(ToolkitError, match="is not a bundle"):
        export_bundle(random_source(), tmp_path / "papers", ExportSettings(LORA, (8,)))
    assert (tmp_path / "papers" / "thesis.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"intermediate_size": 100}, {}, "intermediate_size=100"),
        ({"mlp_bias": True}, {}, "mlp_bias"),
        ({"hidden_act": "gelu"}, {}, "hidden_act"),
        ({}, {"seq_lens": (8, 999)}, "Sequence length 999"),
        ({}, {"seq_lens": ()}, "No sequence length"),
        ({}, {"lowering": "mezo"}, "mezo"),
        ({}, {"quantization": "int3"}, "int3"),
    ],
)
def test_what_is_not_supported_is_refused_and_leaves_nothing(tmp_path, changes, settings, message):
    settings = ExportSettings(**{"lora": LORA, "seq_lens": (8,), **settings})
    with pytest.raises(ToolkitError, match=message):
        export_bundle(random_source(**changes), tmp_path / "bundle", settings)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_the_configuration(tmp_path):
    save_model(tmp_path / "model", "llama")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "intermediate_size": 128}))
    with pytest.raises(ToolkitError, match=r"\[96, 64\].*\[128, 64\]"):
        export_bundle(
            open_source(str(tmp_path / "model")), tmp_path / "b", ExportSettings(LORA, (8,))
        )


def test_weights_that_are_not_finite_are_named(tmp_path):
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = float("inf")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ToolkitError, match=r"layers\.1\.mlp\.up_proj"):
        export_bundle(
            open_source(str(tmp_path / "model")), tmp_path / "b", ExportSettings(LORA, (8,))
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_rows_are_quantized_alike_in_one_piece_and_in_many(monkeypatch):
    source = random_source()
    part = base_parts(source.config)[0]
    assert part.shape[0] % 16  # the last panel is padded
    for scheme in ("int4", "int4-symmetric", "int8"):
        whole, entry = quantize_part(source, part, scheme)
        monkeypatch.setattr("toolkit.bundle.weights._CHUNK", 1)
        pieces, same = quantize_part(source, part, scheme)
        monkeypatch.undo()
        for name in ("codes", "scale", "offset"):
            a, b = getattr(whole, name), getattr(pieces, name)
            assert (a is None and b is None) or torch.equal(a, b)
        assert entry.relative_error == pytest.approx(same.relative_error, rel=1e-6)
        assert entry.nbytes == whole.nbytes


def test_the_adapter_of_a_hub_model_names_its_commit(tmp_path):
    """`peft` loads that one then, whatever the hub's newest is."""
    save_model(tmp_path / "model", "llama")
    for revision, named in (("c0ffee", "c0ffee"), ("", None)):
        source = HuggingFaceSource(tmp_path / "model", name="some/model", revision=revision)
        export_bundle(source, tmp_path / "bundle", ExportSettings(LORA, (8,)))
        config = json.loads((tmp_path / "bundle" / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "some/model" and config["revision"] == named


def test_a_gguf_file_and_an_adapter(tmp_path):
    from peft import LoraConfig, get_peft_model

    config = tiny_config("llama")
    config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    model = tiny_model("llama", config=config)
    write_gguf(tmp_path / "tiny.gguf", model)
    tuned = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=["v_proj"]))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    tuned.save_pretrained(tmp_path / "adapter")
    source = open_source(str(tmp_path / "tiny.gguf"))
    source.save_tokenizer = lambda directory: False  # the tiny file's vocabulary is not a real one
    settings = ExportSettings(LoraSettings(2, 4.0, ("v_proj",)), (8,), adapter=tmp_path / "adapter")
    manifest = export_bundle(source, tmp_path / "bundle", settings)
    assert all(entry["taken_over"] for entry in manifest["quantization"]["tensors"])
    assert manifest["lora"]["start"] == "adapter"
    bundle = Bundle.open(tmp_path / "bundle")
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            key = name.removeprefix("base_model.model.model.").replace(".default.", ".")
            assert torch.equal(bundle.adapter.tensor(key), parameter), name


def test_identity_binds_the_files(exported):
    _, bundle, manifest = exported
    identity = FlatTensorReader(bundle.path / "identity.ptd")
    told = {name: identity.tensor(name).numpy().tobytes() for name in identity}
    programs = bundle.programs_path.read_bytes()
    assert told["programs.crc32"] == zlib.crc32(programs).to_bytes(4, "little")
    assert told["programs.sha256"].hex() == manifest["files"]["programs.pte"]["sha256"]
    assert told["base.sha256"] == bundle.base.sha256()
    assert told["adapter.sha256"] == bundle.adapter.sha256()
    assert told["tokenizer.name"].decode() == manifest["tokenizer"]["name"]
    assert told["tokenizer.sha256"].hex() == manifest["tokenizer"]["sha256"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.1.self_attn.q_proj.weight",
        "model.layers.1.self_attn.k_proj.bias",
        "model.layers.0.input_layernorm.weight",
        "model.norm.weight",
    ],
)
def test_values_that_are_not_finite_are_named(tmp_path, monkeypatch, name, value):
    source = random_source("qwen2")
    rows = source.rows

    def damaged(wanted, begin, end):
        values = rows(wanted, begin, end)
        if wanted == name and begin <= 5 < end:
            values.view(end - begin, -1)[5 - begin, -1] = value
        return values

    monkeypatch.setattr(source, "rows", damaged)
    with pytest.raises(ToolkitError, match=f"^{name} has values that are not finite .*{value}"):
        export_bundle(source, tmp_path / "bundle", ExportSettings(LORA, (8,)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["int4", "int4-symmetric", "int8"])
def test_scales_beyond_float16_are_named(tmp_path, monkeypatch, scheme):
    source = random_source()
    name, rows = "model.layers.1.mlp.up_proj.weight", source.rows
    monkeypatch.setattr(source, "rows", lambda n, b, e: rows(n, b, e) * (1e9 if n == name else 1.0))
    settings = ExportSettings(LORA, (8,), quantization=scheme)
    with pytest.raises(ToolkitError, match=f"^{name}: a scale or an offset .* beyond the range"):
        export_bundle(source, tmp_path / "bundle", settings)


def test_a_scale_in_a_gguf_file_is_named(tmp_path):
    import numpy as np

    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny_model("qwen2"))
    name = "model.layers.1.mlp.up_proj.weight"
    place = open_source(str(path))._entry(name)[2]
    data = bytearray(path.read_bytes())
    data[place : place + 2] = np.float16(np.nan).tobytes()
    path.write_bytes(data)
    with pytest.raises(ToolkitError, match=f"^{name}: A scale in the GGUF file is not finite"):
        export_bundle(open_source(str(path)), tmp_path / "b", ExportSettings(LORA, (8,)))


def test_tensors_that_the_model_has_no_place_for_are_named(tmp_path):

    save_model(tmp_path / "model", "llama")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    derived = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    save_file({**tensors, **derived}, file, {"format": "pt"})
    export_bundle(open_source(str(tmp_path / "model")), tmp_path / "b", ExportSettings(LORA, (8,)))
    for extra in ("model.layers.1.self_attn.q_norm.weight", "model.layers.2.mlp.up_proj.weight"):
        save_file({**tensors, extra: torch.ones(16)}, file, {"format": "pt"})
        with pytest.raises(ToolkitError, match=f"^{extra} is not covered by the family 'llama'"):
            export_bundle(
                open_source(str(tmp_path / "model")), tmp_path / "c", ExportSettings(LORA, (8,))
            )


def test_a_bias_in_a_gguf_file_that_its_configuration_lacks_is_named(tmp_path):
    """llama.cpp stores Llama's attention biases, and the conversion's configuration has none."""
    config = tiny_config("llama")
    config.attention_bias = True
    config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    write_gguf(tmp_path / "tiny.gguf", tiny_model("llama", config=config))
    source = open_source(str(tmp_path / "tiny.gguf"))
    with pytest.raises(ToolkitError, match=r"^model\.layers\.0\.self_attn\.q_proj\.bias is not"):
        export_bundle(source, tmp_path / "b", ExportSettings(LORA, (8,)))
