"""`toolkit inspect` as a user runs it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.support.bundles import export_tiny
from toolkit.cli.main import app
from toolkit.sealed_json import seal


def run(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)], env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("inspect") / "bundle", "qwen2", tied=False)


def test_what_is_shown(bundle):
    result = run(bundle)
    assert result.exit_code == 0, result.output
    text = result.output
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name, method in manifest["methods"].items():
        row = next(line for line in text.splitlines() if name in line)
        assert f"{method['arena_bytes']:,}" in row
        assert method["operators"] and method["operators"][0].removeprefix("toolkit::") in row
    assert f"{manifest['base']['blocks'][0]:,}" in text
    assert "2 layers, hidden 64" in text and "q_proj" in text
    assert f"Hashes match in all {len(manifest['files'])} files." in text
    worst = max(manifest["quantization"]["tensors"], key=lambda t: t["relative_error"])
    listed = text.split("Worst tensors:\n")[1].splitlines()
    assert listed[0].split() == [f"{worst['relative_error']:.4f}", worst["name"], "(int4)"]
    assert result.stderr == f"next: toolkit data FILE --tokenizer {bundle} -o data\n"


@pytest.mark.parametrize("columns", [60, 80])
def test_no_name_is_cut_on_a_narrow_terminal(bundle, columns):
    command = [sys.executable, "-m", "toolkit.cli.main", "inspect", str(bundle)]
    environment = {**os.environ, "COLUMNS": str(columns)}
    text = subprocess.run(command, capture_output=True, text=True, env=environment).stdout
    tables = text[text.index("Size") : text.index("Worst tensors")]
    assert "…" not in tables and max(map(len, tables.splitlines())) <= columns
    words = tables.replace(",", " ").split()
    manifest = json.loads((bundle / "manifest.json").read_text())
    names = {name for method in manifest["methods"].values() for name in method["operators"]}
    assert {name.removeprefix("toolkit::") for name in names} | {*manifest["methods"]} <= {*words}
    assert {f"{method['arena_bytes']}" for method in manifest["methods"].values()} <= {
        *tables.replace(",", "").split()
    }


def test_counts_and_hashes_are_options(bundle):
    text = run(bundle, "--tensors", 2, "--no-hashes").output
    assert "Hashes not checked." in text
    assert text.split("Worst tensors:\n")[1].count("layers.") == 2


def test_json(bundle):
    found = json.loads(run(bundle, "--json").stdout)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert found["hashes"] == "match" and found["methods"] == manifest["methods"]
    errors = [tensor["relative_error"] for tensor in found["quantization"]["tensors"]]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) == 2 * 7 + 2


def test_a_damaged_bundle_is_one_line(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    data = bytearray((copy / "base.ptd").read_bytes())
    data[-1] ^= 1
    (copy / "base.ptd").write_bytes(data)
    result = run(copy)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith(f"error: The bundle {copy} is damaged: the content of base.ptd")
    assert result.stderr.count("\n") == 1


def test_a_damaged_manifest_is_one_line(bundle, tmp_path):
    """Whatever is missing or of another type, there is no traceback and no half of a report."""
    copy = shutil.copytree(bundle, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    places = [
        (name, key) for name, part in manifest.items() if isinstance(part, dict) for key in part
    ]
    assert len(places) > 30
    failed = 0
    for name, key in places:
        for value in (None, "text", [], {}):
            damaged = manifest | {name: manifest[name] | {key: value}}
            if value is None:
                del damaged[name][key]
            (copy / "manifest.json").write_text(json.dumps(seal(damaged)))
            result = run(copy)
            assert result.exit_code in (0, 1)
            assert isinstance(result.exception, SystemExit | None), (name, key, value)
            if result.exit_code:
                failed += 1
                assert "damaged" in result.stderr and result.stdout == "", (name, key, value)
    assert failed > 40
