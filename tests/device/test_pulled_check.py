"""Runs whose files were damaged on their device before they were pulled."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.support.fake_trainer import ADAPTER, write_digests
from toolkit.device.layout import MARKER
from toolkit.device.local import LocalDevice
from toolkit.device.pulled_check import check_pulled
from toolkit.errors import ToolkitError
from toolkit.sealed_json import seal

CONFIG = json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16}).encode()
STATE = b"state" + 0xA393D2FB.to_bytes(4, "little")
NAMES = ("settings.json", "adapter_model.safetensors", "adapter_config.json", "state.bin")


@pytest.fixture
def device(tmp_path):
    bundle = tmp_path / "root/bundles/tiny"
    bundle.mkdir(parents=True)
    (bundle / "adapter_config.json").write_bytes(CONFIG)
    write_digests(bundle / "manifest.json", {})
    (bundle / MARKER).write_text('{"time": 1, "sha256": "abc"}')
    with LocalDevice(tmp_path / "root") as device:
        yield device


@pytest.fixture
def pulled(tmp_path):
    folder = tmp_path / "run1"
    folder.mkdir()
    settings = json.dumps(seal({"bundle": "tiny", "bundle-sha256": "abc", "steps": 5})).encode()
    for name, content in zip(NAMES, (settings, ADAPTER, CONFIG, STATE), strict=True):
        (folder / name).write_bytes(content)
    (folder / "trace.jsonl").write_bytes(b"{\xff\n")
    return folder


def test_whole_files_pass(device, pulled, tmp_path):
    check_pulled(pulled, "run1", device)
    (tmp_path / "root/bundles/tiny/manifest.json").unlink()
    check_pulled(pulled, "run1", device)
    for name in NAMES:
        (pulled / name).unlink()
    check_pulled(pulled, "run1", device)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_is_found(device, pulled, name):
    content = (pulled / name).read_bytes()
    for place in (0, len(content) // 2, len(content) - 1):
        (pulled / name).write_bytes(
            content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
        )
        with pytest.raises(ToolkitError) as error:
            check_pulled(pulled, "run1", device)
        assert error.value.cause.startswith(f"{name} of run 'run1' is damaged on device local,")
        assert str(pulled) in error.value.remedy
    (pulled / name).write_bytes(content[:-1])
    with pytest.raises(ToolkitError, match=f"{name} .* is damaged"):
        check_pulled(pulled, "run1", device)


def test_a_bundle_of_its_name_that_is_another_one_says_nothing(device, pulled, tmp_path):
    bundle = tmp_path / "root/bundles/tiny"
    (bundle / "adapter_config.json").write_bytes(CONFIG.replace(b"8", b"16"))
    write_digests(bundle / "manifest.json", {})
    with pytest.raises(ToolkitError, match=r"adapter_config.json .* is damaged"):
        check_pulled(pulled, "run1", device)
    (bundle / MARKER).write_text('{"time": 2, "sha256": "other"}')
    check_pulled(pulled, "run1", device)


def test_an_adapter_of_an_earlier_version_passes(device, pulled):
    save_file({"a": np.ones(3, np.float32)}, pulled / "adapter_model.safetensors", {"format": "pt"})
    check_pulled(pulled, "run1", device)


def test_a_damaged_checkpoint_is_found(device, pulled):
    folder = pulled / "checkpoints/step-7"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(ADAPTER)
    check_pulled(pulled, "run1", device)
    (folder / "adapter_model.safetensors").write_bytes(ADAPTER[:-1])
    name = "checkpoints/step-7/adapter_model.safetensors"
    with pytest.raises(ToolkitError, match=f"{name} of run 'run1' is damaged"):
        check_pulled(pulled, "run1", device)


def test_all_that_is_damaged_is_named(device, pulled):
    for name in ("adapter_model.safetensors", "state.bin"):
        (pulled / name).write_bytes(b"")
    with pytest.raises(ToolkitError) as error:
        check_pulled(pulled, "run1", device)
    assert error.value.cause.startswith("adapter_model.safetensors and state.bin of run 'run1' are")


@pytest.mark.parametrize(
    "manifest", ["[]", "{}", '{"files": 5}', '{"files": {"adapter_config.json": 5}}']
)
def test_a_manifest_that_says_nothing_is_no_reason_to_fail(device, pulled, tmp_path, manifest):
    content = json.loads(manifest)
    text = json.dumps(seal(content) if isinstance(content, dict) else content)
    (tmp_path / "root/bundles/tiny/manifest.json").write_text(text)
    check_pulled(pulled, "run1", device)
