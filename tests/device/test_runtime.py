"""The self-contained runtimes: arm64 under an emulator against this machine, x86-64 over adb."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import toolkit
from tests.device.test_adb import run_case
from tests.runtime.kernels.native import kernels_probe
from tests.support.bundles import export_tiny
from tests.support.generation import Replier
from tests.support.tiny import relative_error
from toolkit.bundle.bundle import Bundle
from toolkit.data.prepare import prepare_random
from toolkit.device import runtime_build
from toolkit.errors import ToolkitError
from toolkit.oracle.verification import write_perturbed_adapter
from toolkit.runtime import runtime_directory

_CACHE = Path(__file__).resolve().parents[2] / ".cache/toolkit"
_SAMPLES = ("--samples", "0,1", "--threads", "1")


@pytest.fixture(autouse=True)
def cache(monkeypatch):
    """Keep downloads and objects between test runs, in the checkout."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(_CACHE))


@pytest.fixture(scope="module")
def arm64():
    """Return the folder of the arm64 runtime, built incrementally."""
    for program, package in {
        "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
        "qemu-aarch64": "qemu-user",
    }.items():
        if shutil.which(program) is None:
            reason = f"{program} is missing (apt-get install {package})"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_CACHE", str(_CACHE))
        return runtime_build.build("arm64-v8a")


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request, tmp_path_factory):
    """Return a folder with a tiny bundle and data, and what this machine computes for it."""
    folder = tmp_path_factory.mktemp(request.param)
    export_tiny(folder / "bundle", request.param)
    prepare_random(8, 24, 150, 0, folder / "data")
    return folder


def trainer(start, command, folder, *words, isa=None):
    """Run a trainer command on the bundle and data in `folder` and return its output."""
    environment = {key: value for key, value in os.environ.items() if key != "TOOLKIT_ISA"}
    if isa:
        environment["TOOLKIT_ISA"] = isa
    inputs = ["--bundle", folder / "bundle", "--data", folder / "data/train.ptd"]
    line = [*start, command, *(inputs if command != "info" else []), *words]
    result = subprocess.run(
        [str(word) for word in line], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def emulated(runtime):
    """Return the command that starts an arm64 trainer the way a phone does."""
    loader = runtime / "ld-linux-aarch64.so.1"
    return ["qemu-aarch64", loader, "--library-path", runtime, runtime / "trainer"]


def native():
    return [runtime_directory("x86_64") / "trainer"]


ARM64 = [
    ("llama", "neon"), ("llama", "plain"), ("qwen2", "neon"), ("smollm3", "neon"),
    ("granite", "neon"), ("qwen3", "neon"), ("olmo2", "neon"), ("phi3", "neon"), ("phi3", "plain"),
    ("gemma3_text", "neon"), ("gemma3_text", "plain"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model, isa", ARM64, indirect=["model"])
def test_arm64_computes_what_this_machine_computes(arm64, model, tmp_path, isa):
    info = json.loads(trainer(emulated(arm64), "info", model, isa=isa))
    assert (info["abi"], info["isa"]) == ("arm64-v8a", isa)
    here, there = tmp_path / "here.safetensors", tmp_path / "there.safetensors"
    expected = json.loads(trainer(native(), "gradients", model, *_SAMPLES, "--out", here))
    words = (*_SAMPLES, "--out", there)
    actual = json.loads(trainer(emulated(arm64), "gradients", model, *words, isa=isa))
    assert actual["tokens"] == expected["tokens"] > 0
    assert abs(actual["loss"] - expected["loss"]) <= 1e-4 * abs(expected["loss"])
    expected_gradients, gradients = load_file(here), load_file(there)
    assert gradients.keys() == expected_gradients.keys() and gradients
    errors = {name: relative_error(gradients[name], expected_gradients[name]) for name in gradients}
    worst = max(errors, key=errors.get)
    assert errors[worst] < 1e-4, f"{worst}: {errors[worst]:.2e}"
    assert any(tensor.abs().max() > 0 for tensor in gradients.values())


@pytest.mark.slow
def test_arm64_trains_like_this_machine(arm64, model, tmp_path):
    words = ("--steps", "4", "--lr", "0.01", "--threads", "1", "--trace", "steps", "--out")
    losses = {}
    for name, start in (("here", native()), ("there", emulated(arm64))):
        trainer(start, "train", model, *words, tmp_path / name)
        lines = (tmp_path / name / "trace.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        losses[name] = torch.tensor([r["loss"] for r in records if r["type"] == "step"])
    assert len(losses["here"]) == 4
    torch.testing.assert_close(losses["there"], losses["here"], rtol=1e-4, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "isa"), [("gemma3_text", "neon"), ("phi3", "plain")])
def test_arm64_replies_as_this_machine_does(arm64, tmp_path, monkeypatch, family, isa):
    """Greedy, past windows and the change of Phi's frequencies, with an adapter and without."""
    bundle, adapter = export_tiny(tmp_path / "bundle", family, generation=True), tmp_path / "a.ptd"
    write_perturbed_adapter(Bundle.open(bundle), adapter, seed=3)
    prompt = [3, 140, 77, 5, 9, 9, 61, 120, 33, 8, 101]
    replies, scores = {}, {}
    for machine, start in (("here", native()), ("there", emulated(arm64))):
        with Replier(bundle, start=start, threads=1, part=4, max_tokens=24) as replier:
            for name in ("none", adapter):
                replies[machine, name] = replier.reply(prompt, adapter=name)[0]
                scores[machine, name] = torch.tensor(replier.score(prompt))
        monkeypatch.setenv("TOOLKIT_ISA", isa)
    for name in ("none", adapter):
        assert replies["there", name] == replies["here", name] and len(replies["here", name]) == 24
        torch.testing.assert_close(scores["there", name], scores["here", name], rtol=0, atol=1e-4)
    assert (scores["here", "none"] - scores["here", adapter]).abs().max() > 0.01


CPUS = {
    "cortex-a53": {"neon", "plain"},
    "neoverse-n1": {"neon_dotprod", "neon", "plain"},
    "max": {"neon_i8mm", "neon_dotprod", "neon", "plain"},
}


@pytest.mark.slow
def test_arm64_multiplies_in_fixed16_to_this_machines_bits(arm64):
    """On processors with and without the units, each by all the code that it has."""
    builds = (_CACHE / "build").glob("arm64-v8a-*")
    work = max(builds, key=lambda path: path.stat().st_mtime)
    make = [runtime_build._cmake(), "--build", work, "--target", "kernels_probe"]
    subprocess.run(make, check=True, capture_output=True)
    expected = {line.split()[1] for line in kernels_probe("products")}
    assert len(expected) == 1
    for cpu, isas in CPUS.items():
        start = ["qemu-aarch64", "-cpu", cpu, "-L", "/usr/aarch64-linux-gnu"]
        words = [*start, work / "kernels_probe", "products"]
        result = subprocess.run(words, capture_output=True, text=True, check=True)
        found = dict(line.split() for line in result.stdout.splitlines())
        assert found.keys() == isas, cpu
        assert set(found.values()) == expected, (cpu, found)


@pytest.mark.slow
def test_what_arm64_estimates_is_replayed_bit_by_bit(arm64, model, tmp_path):
    """Its random directions are those of every other instruction set, and of Python."""
    words = ("--method", "mezo", "--steps", "3", "--lr", "0.01", "--threads", "1", "--out")
    trainer(emulated(arm64), "train", model, *words, tmp_path / "run")
    replayed = toolkit.replay(tmp_path / "run", tmp_path / "again", bundle=model / "bundle")
    assert (replayed.steps, replayed.same_as_run) == (3, True)


@pytest.mark.slow
def test_arm64_runs_on_phones_with_16_kib_pages(arm64):
    files = [path for path in arm64.iterdir() if path.is_file()]
    assert {"trainer", "libexecutorch.so", "libc.so.6", "ld-linux-aarch64.so.1"} <= {
        path.name for path in files
    }
    for path in files:
        assert load_alignment(path) >= 16384, path.name
    assert sum(path.stat().st_size for path in files) < 12e6


def load_alignment(path: Path) -> int:
    """Return the smallest alignment of a 64-bit little-endian ELF file's LOAD segments."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    assert struct.unpack_from("<H", data, 18) == (183,), "not for arm64"
    (offset,), (size, count) = (
        struct.unpack_from("<Q", data, 32),
        struct.unpack_from("<HH", data, 54),
    )
    segments = [struct.unpack_from("<II6Q", data, offset + size * i) for i in range(count)]
    return min(segment[7] for segment in segments if segment[0] == 1)


def test_the_real_trainer_over_adb(model, tmp_path):
    """Through adb with its own libraries the trainer gives the same bits as on this machine."""
    runtime_build.build("x86_64")
    shutil.copytree(model / "bundle", tmp_path / "bundle")
    shutil.copytree(model / "data", tmp_path / "data")
    run_case("real_training", tmp_path, TOOLKIT_CACHE=str(_CACHE))
    words = ("--steps", "4", "--lr", "0.01", "--threads", "1", "--out", tmp_path / "here")
    trainer(native(), "train", model, *words)
    pulled = tmp_path / "runs/adb"
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (pulled / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name


def test_a_missing_compiler_names_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolkitError, match=r"aarch64-linux-gnu-g\+\+ is missing.*apt-get install"):
        runtime_build.build("arm64-v8a")


def test_a_cmake_that_is_too_old_is_named_with_the_version_it_needs(tmp_path, monkeypatch):
    old = tmp_path / "cmake"
    old.write_text("#!/bin/sh\necho cmake version 3.25.1\n")
    old.chmod(0o755)
    monkeypatch.setattr(runtime_build, "_tool_path", lambda: f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ToolkitError, match=r"is CMake 3\.25\.1, the runtime needs 3\.28 or newer"):
        runtime_build._cmake()
    monkeypatch.undo()
    assert runtime_build._cmake().endswith("cmake")


def test_other_abis_are_refused():
    with pytest.raises(ToolkitError, match="no runtime for armeabi-v7a devices"):
        runtime_build.build("armeabi-v7a")


def test_a_download_is_seen_on_a_terminal_and_leaves_standard_output_alone(capfd):
    command = [sys.executable, "-c", "print('12 MB/s')"]
    assert runtime_build._run(command, "it failed", shown=True) == ""
    assert capfd.readouterr() == ("", "12 MB/s\n")
    assert runtime_build._run(command, "it failed") == "12 MB/s\n"
    assert capfd.readouterr() == ("", "")
    failing = [sys.executable, "-c", "import sys; sys.exit('error: no route')"]
    with pytest.raises(ToolkitError, match=r"it failed: error: no route"):
        runtime_build._run(failing, "it failed", shown=True)


@pytest.mark.slow
def test_the_real_trainer_splits_over_adb(tmp_path):
    """With the layers above the cut on this computer: the same bits as with both parts here."""
    runtime_build.build("x86_64")
    export_tiny(tmp_path / "bundle", "llama")
    prepare_random(8, 24, 150, 0, tmp_path / "data")
    run_case("split_training", tmp_path, TOOLKIT_CACHE=str(_CACHE))
    folders = [tmp_path / "runs" / name for name in ("adb", "here")]
    phone, here = ({p.name for p in f.rglob("*") if p.is_file()} for f in folders)
    assert {"state.bin", "computer-3.pt", "adapter_model.safetensors"} < phone == here
    adapters = [load_file(folder / "adapter_model.safetensors") for folder in folders]
    assert adapters[0].keys() == adapters[1].keys()
    for name, value in adapters[0].items():
        assert torch.equal(value, adapters[1][name]), name
