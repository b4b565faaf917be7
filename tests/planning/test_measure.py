"""A device is measured through its real trainer, with a tiny model in place of the usual one."""

import json
from pathlib import Path

import pytest

from toolkit.choices import ISAS
from toolkit.device import open_device
from toolkit.device.contents import checked_files
from toolkit.device.inventory import KINDS
from toolkit.ops import OPERATORS
from toolkit.planning import measure
from toolkit.planning.measure import calibration_bundle, machine_of

TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 160,
}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "device"))
    monkeypatch.setattr(measure, "_SHAPE", {**measure._SHAPE, **TINY})
    return tmp_path


@pytest.mark.slow
def test_this_machine(tiny: Path) -> None:
    said: list[str] = []
    with open_device("local") as device:
        machine = measure.measure(device, 1, said.append)
        left = [entry for kind in KINDS for entry in device.list(f"{device.root}/{kind}")]
    assert machine.measured and machine.name
    assert machine.kernels.threads == 1
    assert machine.kernels.isa in ISAS
    assert machine.available > 1e8
    # A process with the runtime takes about 4.4 MB before it does anything.
    assert 3e6 < machine.runtime_bytes < 9e6
    assert machine.speed.products > 1e8 and set(machine.speed.rates) == set(measure.PHASES)
    assert len(said) == 2 and {entry.path.split("/")[-2] for entry in left} == {"runtime"}
    made = (calibration_bundle() / "manifest.json").stat().st_mtime_ns
    assert (calibration_bundle() / "manifest.json").stat().st_mtime_ns == made


def test_a_model_that_is_not_whole_is_made_again(tiny: Path) -> None:
    manifest = calibration_bundle() / "manifest.json"
    whole = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({n: v for n, v in whole.items() if n != "crc32"}))
    checked_files(calibration_bundle(), "bundle")
    manifest.with_name("base.ptd").write_bytes(b"cut")
    checked_files(calibration_bundle(), "bundle")


def test_operators_that_changed_need_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    before = measure._programs_digest()
    assert before == measure._programs_digest()
    operator = OPERATORS["attention"]
    monkeypatch.setattr(operator, "outputs", [*operator.outputs, "lse"])
    assert measure._programs_digest() != before


def test_traces_without_phases(tmp_path: Path) -> None:
    from tests.trace.synthetic import Recipe, write_trace
    from toolkit.errors import ToolkitError
    from toolkit.trace.reader import read_trace

    trace = read_trace(write_trace(tmp_path / "t.jsonl", Recipe(steps=3, detail="steps")))
    with pytest.raises(ToolkitError, match="no timed phases"):
        machine_of(dict.fromkeys(measure.LENGTHS, trace), "phone")
