"""Which model an adapter belongs to."""

import json
import shutil

import pytest

from tests.support.adapters import save_adapter
from tests.support.bundles import export_tiny
from tests.support.models import plain_model, save_model, tiny_model, write_gguf
from toolkit.bundle.bundle import Bundle
from toolkit.errors import ToolkitError
from toolkit.exchange.base import find_base, find_config, find_run_bundle


def write_trace(run, bundle, sha256=None, model="tiny"):
    """Write the first record of a run with this bundle."""
    own = Bundle.open(bundle).base.sha256().hex() if sha256 is None else sha256
    record = {
        "type": "run",
        "version": 1,
        "model": model,
        "settings": {"bundle": str(bundle)},
        "bundle": {"base_sha256": own},
    }
    (run / "trace.jsonl").write_text(json.dumps(record) + "\n")


@pytest.fixture
def run(tmp_path):
    """Return a run's folder whose adapter names a model that is not there."""
    save_adapter(tmp_path / "run", tiny_model("llama"), base=str(tmp_path / "model"))
    return tmp_path / "run"


def test_what_the_adapter_names(tmp_path, run):
    with pytest.raises(ToolkitError, match=r"is not there; no bundle of the run is near. Name it"):
        find_base(run)
    save_model(tmp_path / "model", "llama")
    found = find_base(run)
    assert found.original and found.source.origin == str(tmp_path / "model")
    assert found.describe() == f"the original weights of {tmp_path / 'model'}"


def test_a_folder_of_gguf_files(tmp_path, run):
    (tmp_path / "model").mkdir()
    with pytest.raises(ToolkitError, match=r"has neither config.json nor a \.gguf file"):
        find_base(run)
    write_gguf(tmp_path / "model" / "a.gguf", plain_model("llama"))
    found = find_base(run)
    assert found.source.name == "a"
    file = tmp_path / "model" / "a.gguf"
    assert found.describe() == f"the weights of {file}, quantized (Q4_1, Q8_0)"
    write_gguf(tmp_path / "f16.gguf", plain_model("llama"), "F16", "F16")
    found = find_base(run, str(tmp_path / "f16.gguf"))
    assert found.describe() == f"the original weights of {tmp_path / 'f16.gguf'}"
    shutil.copy(tmp_path / "model" / "a.gguf", tmp_path / "model" / "b.gguf")
    with pytest.raises(ToolkitError, match=r"has several \.gguf files"):
        find_base(run)
    write_trace(run, "nowhere", "0" * 64, model="b")
    assert find_base(run).source.name == "b"


def test_the_bundle_of_the_run(tmp_path, run, monkeypatch):
    """One with the run's weights is taken, wherever it is of the three places; another never."""
    bundle = export_tiny(tmp_path / "made", "llama")
    monkeypatch.chdir(tmp_path)
    write_trace(run, bundle, "0" * 64)
    with pytest.raises(ToolkitError, match="no bundle of the run is near"):
        find_base(run)
    with pytest.raises(ToolkitError, match="has other weights than the one that"):
        find_base(run, str(bundle))
    write_trace(run, bundle)
    found = find_base(run)
    assert not found.original and found.source.origin == str(bundle)
    assert not find_base(run, str(bundle)).original
    (tmp_path / "elsewhere").mkdir()
    moved = run.rename(tmp_path / "elsewhere" / "run")
    bundle.rename(tmp_path / "elsewhere" / "bundle")
    assert find_base(moved).source.origin == str(tmp_path / "elsewhere" / "bundle")
    (tmp_path / "elsewhere" / "bundle").rename(tmp_path / "bundle")
    assert find_base(moved).source.origin == "bundle"
    save_model(tmp_path / "model", "llama")
    assert find_base(moved).original


def test_bundles_that_are_damaged_or_of_another_version_hide_none(tmp_path, run, monkeypatch):
    bundle = export_tiny(tmp_path / "made", "llama")
    write_trace(run, bundle)
    damaged = shutil.copytree(bundle, tmp_path / "bundle")
    (damaged / "base.ptd").write_bytes(b"no bundle")
    (tmp_path / "here").mkdir()
    old = shutil.copytree(bundle, tmp_path / "here" / "bundle") / "manifest.json"
    old.write_text(json.dumps(json.loads(old.read_text()) | {"format_version": 0}))
    monkeypatch.chdir(tmp_path / "here")
    assert find_base(run).source.origin == str(bundle)
    assert find_run_bundle(run) == bundle
    write_trace(run, bundle, "0" * 64)
    with pytest.raises(ToolkitError, match="is not near it") as error:
        find_run_bundle(run)
    for reason in (f"{damaged}", "version 0", f"{bundle} has other weights"):
        assert reason in error.value.cause


def test_a_hub_id_with_its_revision(tmp_path, monkeypatch):
    save_model(tmp_path / "cached", "llama")
    save_adapter(
        tmp_path / "run", tiny_model("llama"), base="some/model", revision="abc", use_rslora=True
    )
    asked = []

    def download(model, revision=""):
        asked.append((model, revision))
        return tmp_path / "cached", "abc"

    monkeypatch.setattr("toolkit.sources.hub.download", download)
    assert find_base(tmp_path / "run").source.revision == "abc"
    assert asked == [("some/model", "abc")]


def test_of_a_model_on_the_hub_only_its_shape_is_fetched(tmp_path, monkeypatch):
    save_model(tmp_path / "cached", "llama", layers=3)
    save_adapter(tmp_path / "run", tiny_model("llama"), base="some/model")
    config = tmp_path / "cached" / "config.json"
    monkeypatch.setattr("toolkit.exchange.base.download_config", lambda model, revision: config)
    found, name = find_config(tmp_path / "run")
    assert found.num_hidden_layers == 3 and name == "some/model"
    found, name = find_config(tmp_path / "run", str(tmp_path / "cached"))
    assert found.num_hidden_layers == 3 and name == "cached"
