"""The same weights give the same bundle, whatever file they come from and in whatever type."""

import json
from pathlib import Path

import pytest
import torch

from tests.support.chatml import QWEN2, make_tokenizer
from tests.support.models import stored_config, tiny_model, write_gguf
from toolkit import programs
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.families import FAMILIES
from toolkit.lora import ALL_LINEAR, LoraSettings
from toolkit.sources import open_source

FILES = ("programs.pte", "base.ptd", "adapter.ptd")
VOCABULARY = 400
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# What a configuration says of the file that it is of, not of the model.
COSMETIC = {"_name_or_path", "architectures", "dtype", "transformers_version"} | {
    f"{name}_token_id" for name in ("bos", "eos", "pad")
}


def model_of_short_weights(family):
    """Multiples of 1/64 with few bits: equal in float32, float16 and bfloat16, norms plus 1 too."""
    config = stored_config(family, tied=family != "olmo2")
    config.vocab_size = VOCABULARY
    model = tiny_model(family, config=config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_((parameter * 64).round() / 64)
            assert torch.equal(parameter, parameter.half().float()), name
            assert torch.equal(parameter, parameter.bfloat16().float()), name
    return model


def export(place: Path, bundle: Path) -> tuple[dict[str, bytes], dict]:
    settings = ExportSettings(LoraSettings(2, 4.0, (ALL_LINEAR,)), (8,))
    export_bundle(open_source(str(place)), bundle, settings)
    config = json.loads((bundle / "config.json").read_text())
    kept = {name: value for name, value in config.items() if name not in COSMETIC}
    return {name: (bundle / name).read_bytes() for name in FILES}, kept


@pytest.fixture
def one_lowering(monkeypatch):
    """Let exports whose configurations are equal share the programs."""
    lowered = {}

    def build(config, **settings):
        own = {k: v for k, v in config.to_dict().items() if k not in COSMETIC}
        key = json.dumps([own, repr(settings)], sort_keys=True)
        if key not in lowered:
            lowered[key] = programs.build_programs(config, **settings)
        return lowered[key]

    monkeypatch.setattr("toolkit.bundle.export.build_programs", build)
    return lowered


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_directories_and_gguf_files_give_equal_bundles(tmp_path, family, one_lowering):
    model = model_of_short_weights(family)
    tokenizer, results = make_tokenizer(QWEN2), {}
    for name, dtype in TYPES.items():
        # Of one name, which the programs have.
        place = tmp_path / f"files-{name}" / "tiny.gguf"
        place.parent.mkdir()
        write_gguf(place, model, name, name, tokenizer=tokenizer)
        results[f"file {name}"] = export(place, tmp_path / f"bundle-file-{name}")
        place = tmp_path / f"folder-{name}" / "tiny"
        model.to(dtype).save_pretrained(place)
        results[f"folder {name}"] = export(place, tmp_path / f"bundle-folder-{name}")
    (expected, config), *others = results.values()
    for (files, other), name in zip(others, list(results)[1:], strict=True):
        assert other == config, name
        for file in FILES:
            assert files[file] == expected[file], f"{file} of {name}"
    assert len(one_lowering) == 1
