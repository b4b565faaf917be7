"""Adapters to start from, sent to this machine as a device."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from tests.support.bundles import export_tiny
from tests.support.models import tiny_model
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.device.adapters import send_adapter
from toolkit.device.layout import Deployed
from toolkit.device.local import LocalDevice
from toolkit.errors import ToolkitError
from toolkit.lora import PROJECTIONS


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Return a bundle's folder with adapters of rank 4 and alpha 8 on all projections."""
    return export_tiny(tmp_path_factory.mktemp("adapters") / "tiny", "qwen2")


@pytest.fixture
def deployed(bundle, tmp_path):
    """Return a device that has the bundle, and the bundle on it."""
    with LocalDevice(tmp_path / "root") as device:
        shutil.copytree(bundle, tmp_path / "root/bundles/tiny")
        yield device, Deployed("tiny", f"{device.root}/bundles/tiny", 0.0, "")


@pytest.fixture
def adapter(tmp_path):
    """Return a function that saves a PEFT adapter of the tiny model with random tensors."""

    def save(**options):
        options = {"r": 4, "lora_alpha": 8, "target_modules": list(PROJECTIONS), **options}
        model = get_peft_model(tiny_model("qwen2"), LoraConfig(**options))
        torch.manual_seed(3)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_()
        model.save_pretrained(tmp_path / "mine")
        return tmp_path / "mine"

    return save


def test_a_folder_of_peft_is_converted(deployed, adapter):
    device, bundle = deployed
    folder = adapter()
    path = send_adapter(device, folder, bundle, print)
    sent = FlatTensorReader(path)
    wanted = load_file(folder / "adapter_model.safetensors")
    assert {f"base_model.model.model.{name}" for name in sent} == wanted.keys()
    for name in sent:
        assert torch.equal(sent.tensor(name), wanted[f"base_model.model.model.{name}"]), name
    assert sent.specs() == FlatTensorReader(f"{bundle.path}/adapter.ptd").specs()
    assert send_adapter(device, folder / "adapter_model.safetensors", bundle, print) == path


def test_another_base_model_is_said(deployed, adapter):
    """Of an adapter that names the base which the bundle's own runs name, nothing is said."""
    device, bundle = deployed
    folder, lines = adapter(), []
    own = json.loads(device.read(f"{bundle.path}/adapter_config.json"))["base_model_name_or_path"]
    config = json.loads((folder / "adapter_config.json").read_text())
    for base in (own, "someone/else"):
        config["base_model_name_or_path"] = base
        (folder / "adapter_config.json").write_text(json.dumps(config))
        send_adapter(device, folder, bundle, lines.append)
    said = f"note: {folder} says that its base model is someone/else, the bundle's is {own}"
    assert lines == [said]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 2}, "has rank 2, the bundle 4. Export a bundle for it with `toolkit export MODEL"),
        ({"lora_alpha": 16}, "has alpha 16, the bundle 8"),
        ({"target_modules": ["q_proj", "v_proj"]}, "has targets q_proj,v_proj, the bundle "),
        ({"use_rslora": True}, "has use_rslora True, the bundle False"),
        ({"rank_pattern": {"q_proj": 2}}, "2 (q_proj), 4 (up_proj), 4 (v_proj), the bundle 4"),
        ({"layers_to_transform": [1]}, "has no base_model.model.model.layers.0."),
        ({"init_lora_weights": "pissa"}, "is of PiSSA: it was made with init_lora_weights='pissa'"),
        ({"use_dora": True}, "uses DoRA (use_dora)"),
    ],
)
def test_what_does_not_fit_is_refused(deployed, adapter, options, message):
    device, bundle = deployed
    with pytest.raises(ToolkitError) as error:
        send_adapter(device, adapter(**options), bundle, print)
    assert message in str(error.value)
    assert device.list(f"{device.root}/adapters") == []


def test_another_models_tensors_are_refused(deployed, adapter):
    device, bundle = deployed
    file = adapter() / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    save_file(tensors | {name: torch.zeros(4, 32)}, file)
    with pytest.raises(ToolkitError, match="belongs to another model"):
        send_adapter(device, file.parent, bundle, print)
