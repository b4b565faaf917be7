"""What PEFT's folders say, and which of them are refused."""

import json
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from tests.bundle.test_adapter import PATTERNS, PATTERNS_OF_PEFT, save_adapter
from toolkit.bundle.adapter import check_peft_settings, check_peft_weights
from toolkit.bundle.layout import adapter_specs
from toolkit.bundle.peft_files import read_peft_settings
from toolkit.errors import ToolkitError
from toolkit.safetensors_checksum import CHECKSUM


@pytest.mark.parametrize(
    "pattern",
    [
        {"q_proj": 2},
        {"q_proj": 2, "self_attn.q_proj": 3},
        {r"layers\.\d+\.self_attn\.q_proj": 2},
        {f"model.layers.{i}.self_attn.q_proj": 2 for i in range(2)},
    ],
)
def test_patterns_of_peft_come_to_ranks_of_targets(tmp_path, pattern):
    model = save_adapter(tmp_path, **PATTERNS_OF_PEFT | {"rank_pattern": pattern})
    assert read_peft_settings(tmp_path) == replace(PATTERNS, layers="0-1")
    check_peft_weights(tmp_path, adapter_specs(model.base_model.model.config, PATTERNS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank_pattern": ()}, r"rank 4 \(down_proj\), 2 \(q_proj\), the bundle 4\."),
        ({"alpha_pattern": ()}, r"alpha 3.5 \(down_proj\), 6 \(q_proj\), the bundle 6\."),
        ({"rslora": False}, "use_rslora True, the bundle False"),
        ({"targets": ("q_proj", "down_proj", "v_proj")}, "targets down_proj,q_proj, the bundle"),
    ],
)
def test_an_adapter_of_other_settings_is_refused(tmp_path, change, message):
    save_adapter(tmp_path, **PATTERNS_OF_PEFT)
    check_peft_settings(tmp_path, PATTERNS)
    with pytest.raises(ToolkitError, match=message):
        check_peft_settings(tmp_path, replace(PATTERNS, **change))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, r"uses DoRA \(use_dora\)"),
        ({"bias": "all"}, r"trained biases \(bias\)"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {r"layers\.1\.self_attn\.q_proj": 2}}, "rank_pattern.* q_proj 4 .* 2 in"),
    ],
)
def test_variants_of_lora_are_refused(tmp_path, options, message):
    save_adapter(tmp_path, **options)
    with pytest.raises(ToolkitError, match=message):
        read_peft_settings(tmp_path)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("pissa", "PiSSA"),
        ("pissa_niter_4", "PiSSA"),
        ("olora", "OLoRA"),
        ("corda", "CorDA"),
        ("loftq", "LoftQ"),
        ("lora_ga", "LoRA-GA"),
        ("new", "unknown"),
    ],
)
def test_adapters_for_a_changed_base_are_refused(tmp_path, start, name):
    """These take a part of the base weights away, so that the adapter means nothing on ours."""
    save_adapter(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"init_lora_weights": start}))
    with pytest.raises(ToolkitError, match=f"{name}.* init_lora_weights='{start}'"):
        read_peft_settings(tmp_path)
    for same in (True, False, "gaussian", "eva"):
        changed = json.dumps(config | {"init_lora_weights": same})
        (tmp_path / "adapter_config.json").write_text(changed)
        assert read_peft_settings(tmp_path).rank == 4


def test_a_checksum_that_another_program_kept_is_said_to_be_one(tmp_path):
    save_adapter(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", CHECKSUM: "00000000"})
    with pytest.raises(ToolkitError, match="damaged, or another program wrote it and kept our"):
        read_peft_settings(tmp_path)


def test_what_is_no_adapter(tmp_path):
    with pytest.raises(ToolkitError, match=r"no adapter_config\.json"):
        read_peft_settings(tmp_path)
    with pytest.raises(ToolkitError, match="nosuch does not exist"):
        read_peft_settings(tmp_path / "nosuch")
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(ToolkitError, match="not an adapter's"):
        read_peft_settings(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(ToolkitError, match="IA3"):
        read_peft_settings(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ToolkitError, match="adapter_model"):
        read_peft_settings(tmp_path)
