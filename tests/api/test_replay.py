"""A run of mezo, pulled and made again from its list, by the API and the command line."""

import json
import shutil

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

import toolkit
from tests.support.bundles import export_tiny
from toolkit.bundle.bundle import Bundle
from toolkit.cli.main import app
from toolkit.errors import ToolkitError
from toolkit.oracle.verification import write_perturbed_adapter

STEPS = 4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a bundle and a run that was pulled."""
    folder = tmp_path_factory.mktemp("replay")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_HOME", str(folder / "home"))
        bundle = export_tiny(folder / "bundle", "llama")
        data = toolkit.prepare_data([], random=9, bundle=bundle, seq_len=24, output=folder / "data")
        settings = toolkit.TrainSettings(method="mezo", steps=STEPS, zo_eps=0.01, grad_accum=2)
        with toolkit.open_device("local") as device:
            device.deploy(bundle, data)
            run = device.train("run", settings)
            assert len(list(run)) == STEPS
            run.pull(folder / "run")
    return folder


def command(*words):
    return CliRunner().invoke(app, ["replay", *map(str, words)])


def tensors(folder):
    return {
        n: t.numpy().tobytes() for n, t in load_file(folder / "adapter_model.safetensors").items()
    }


def test_the_adapter_is_made_again(place, tmp_path):
    result = toolkit.replay(place / "run", tmp_path / "again", bundle=place / "bundle")
    assert (result.steps, result.same_as_run) == (STEPS, True)
    assert tensors(result.path) == tensors(place / "run")
    config = "adapter_config.json"
    assert (result.path / config).read_bytes() == (place / "run" / config).read_bytes()
    start = toolkit.replay(place / "run", tmp_path / "start", bundle=place / "bundle", steps=0)
    assert start.same_as_run is None and tensors(start.path) != tensors(place / "run")


def test_by_the_command_line(place, tmp_path):
    words = (place / "run", "--bundle", place / "bundle", "-o")
    result = command(*words, tmp_path / "a")
    assert result.exit_code == 0 and "the same bits as the run's own" in result.output
    result = command(*words, tmp_path / "b", "--steps", 2, "--json")
    facts = json.loads(result.stdout)
    assert facts == {"path": str(tmp_path / "b"), "steps": 2, "same_as_run": None}


def test_an_adapter_with_other_bits_is_told(place, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    path = run / "estimates.jsonl"
    lines = path.read_text().splitlines()
    last = json.loads(lines[-1])
    last["g"] = [last["g"][0] * 1.001]
    path.write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    result = command(run, "--bundle", place / "bundle", "-o", tmp_path / "again")
    assert result.exit_code == 1 and "has other bits than its list makes" in result.output


def test_what_does_not_belong_together_is_refused(place, tmp_path):
    other = tmp_path / "other.ptd"
    write_perturbed_adapter(Bundle.open(place / "bundle"), other, seed=5)
    for arguments, what in [
        ({"bundle": place / "bundle", "steps": STEPS + 1}, f"has {STEPS} steps, not {STEPS + 1}"),
        ({"bundle": place / "bundle", "adapter": other}, "is not the adapter that"),
    ]:
        with pytest.raises(ToolkitError, match=what):
            toolkit.replay(place / "run", tmp_path / "again", **arguments)
    with pytest.raises(ToolkitError, match="exists"):
        toolkit.replay(place / "run", place, bundle=place / "bundle")
    with pytest.raises(ToolkitError, match=r"has no estimates\.jsonl"):
        toolkit.replay(place / "bundle", tmp_path / "again", bundle=place / "bundle")


def test_a_run_that_has_not_saved_has_nothing_to_replay(place, tmp_path):
    (tmp_path / "estimates.jsonl").touch()
    with pytest.raises(ToolkitError, match="holds nothing yet"):
        toolkit.replay(tmp_path, tmp_path / "again", bundle=place / "bundle")


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"step","step":1,"lr":1,"g":[1]}',
        '{"type":"step","step":5,"lr":1,"g":[null]}',
        '{"type":"step","step":5,"lr":1,"g":[]}',
        '{"type":"session","version":2}',
        "not JSON",
        "[]",
    ],
)
def test_a_damaged_list_is_said(place, tmp_path, line):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    with (run / "estimates.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ToolkitError, match="is damaged"):
        toolkit.replay(run, tmp_path / "again", bundle=place / "bundle")
