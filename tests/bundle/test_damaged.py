"""A damaged bundle is one clear error, whatever is wrong with it."""

import json
import shutil

import pytest

from tests.support.tiny import tiny_config
from toolkit import BUNDLE_FORMAT_VERSION
from toolkit.bundle.adapter import LoraSettings
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.bundle.inspection import inspect_bundle
from toolkit.bundle.layout import parameter_shapes
from toolkit.errors import ToolkitError
from toolkit.programs import Programs
from toolkit.sealed_json import seal
from toolkit.sources.random import RandomSource


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "bundle"
    config = tiny_config("qwen2", tied=False)
    source = RandomSource(config, parameter_shapes(config), "tiny", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolkit.bundle.export.build_programs", lambda *_a, **_k: Programs(b"x", {}))
        export_bundle(source, folder, ExportSettings(LoraSettings(2, 4.0, ("q_proj",)), (8,)))
    return folder


@pytest.fixture
def bundle(original, tmp_path):
    return shutil.copytree(original, tmp_path / "bundle")


def edit(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(seal(manifest)))


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_good_bundle(bundle):
    found = inspect_bundle(bundle)
    assert found["hashes"] == "match"
    sizes = found["sizes"]
    assert sizes["all blocks"] == 2 * sizes["each of 2 blocks"]
    assert sizes["whole bundle"] == sum(
        path.stat().st_size for path in bundle.iterdir() if path.name != "manifest.json"
    )
    errors = [tensor["relative_error"] for tensor in found["quantization"]["tensors"]]
    assert errors == sorted(errors, reverse=True) and errors[-1] > 0
    summary = {group["weight"]: group for group in found["quantization"]["summary"]}
    assert summary["q_proj"]["count"] == 2 and summary["lm_head"]["count"] == 1
    for group in summary.values():
        members = [
            tensor
            for tensor in found["quantization"]["tensors"]
            if tensor["name"].endswith(group["weight"])
        ]
        assert group["worst_error"] == max(m["relative_error"] for m in members)
        assert group["bytes"] == sum(m["nbytes"] for m in members)
        mean = sum(m["relative_error"] for m in members) / len(members)
        assert group["mean_error"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), "not a bundle"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda f: (f / "manifest.json").write_text("[]"), "not a bundle's manifest"),
        (lambda f: edit(f, lambda m: m.update(format="zip")), "not a bundle's manifest"),
        (lambda f: edit(f, lambda m: m.update(format_version=9)), f"reads {BUNDLE_FORMAT_VERSION}"),
        (lambda f: edit(f, lambda m: m.pop("lora")), "no valid field 'lora'"),
        (lambda f: edit(f, lambda m: m["files"].pop("base.ptd")), "does not list base.ptd"),
        (lambda f: edit(f, lambda m: m["files"].update({"../x": {}})), "outside the bundle"),
        (lambda f: edit(f, lambda m: m["files"].update({"/etc/x": {}})), "outside the bundle"),
        (lambda f: edit(f, lambda m: m["files"].update({"x": 3})), "no valid entry for x"),
        (lambda f: (f / "base.ptd").unlink(), "base.ptd is missing"),
        (lambda f: (f / "adapter.ptd").write_bytes(b""), "adapter.ptd has 0 bytes instead of"),
    ],
)
def test_damage_that_opening_finds(bundle, damage, message):
    damage(bundle)
    for read in (Bundle.open, inspect_bundle):
        with pytest.raises(ToolkitError, match=message) as error:
            read(bundle)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["base.ptd", "programs.pte", "adapter_config.json"])
def test_a_single_flipped_bit_is_found_by_its_hash(bundle, name):
    flip(bundle / name, (bundle / name).stat().st_size // 2)
    opened = Bundle.open(bundle)
    for check in (opened.check_hashes, lambda: inspect_bundle(bundle)):
        with pytest.raises(ToolkitError, match=f"content of {name} does not match its hash"):
            check()
    assert inspect_bundle(bundle, check_hashes=False)["hashes"] == "not checked"


def test_a_manifest_without_details(bundle):
    edit(bundle, lambda m: m["quantization"].pop("tensors"))
    with pytest.raises(ToolkitError, match="damaged"):
        inspect_bundle(bundle)
