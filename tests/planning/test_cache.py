"""What a plan found is remembered: quick the second time, never wrong, never in the way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import __version__
from toolkit.files import cache_root
from toolkit.planning import cache
from toolkit.planning.cache import remembered
from toolkit.planning.graph import from_json, to_json
from toolkit.planning.model import open_model
from toolkit.planning.predict import Planner

_RUN = """
import json, sys
from typer.testing import CliRunner
from toolkit.cli.main import app
result = CliRunner().invoke(app, sys.argv[1:])
heavy = [name for name in ("torch", "transformers", "executorch") if name in sys.modules]
print(json.dumps([result.exit_code, heavy, result.stdout]))
"""


def run(folder: Path, *words: object) -> tuple[int, list[str], str]:
    """Run the command line in a process of its own; return code, heavy imports and output."""
    environment = {**os.environ, "TOOLKIT_CACHE": str(folder)}
    command = [sys.executable, "-c", _RUN, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.strip().splitlines()[-1]))


def test_a_shape_seen_before_is_planned_without_torch(tmp_path: Path) -> None:
    words = ("plan", "smollm2-135m", "--seq-len", 64, "--budget", "60MB", "--json")
    first = run(tmp_path / "cache", *words)
    assert first[0] == 0 and "torch" in first[1]
    entries = list((tmp_path / "cache/plans").iterdir())
    assert entries
    second = run(tmp_path / "cache", *words)
    assert second == (0, [], first[2])
    assert list((tmp_path / "cache/plans").iterdir()) == entries


@pytest.mark.parametrize("words", [("plan", "--help"), ("data", "--help")])
def test_help_imports_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    code, heavy, output = run(tmp_path, *words)
    assert code == 0 and heavy == [] and "Examples:" in output


def test_programs_survive_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    model = open_model("smollm2-135m")
    traced = Planner(model).traced(model.settings)
    assert from_json(json.loads(json.dumps(to_json(traced)))) == traced
    assert Planner(model).traced(model.settings) == traced


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"value": "x"}'])
def test_damaged_entries_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    calls = []

    def find() -> int:
        return remembered("x", lambda: calls.append(1) or 7, lambda v: {"value": v}, _value)

    assert find() == find() == 7 and len(calls) == 1
    [entry] = (tmp_path / "plans").iterdir()
    good = entry.read_bytes()
    entry.write_bytes(content)
    assert find() == 7 and len(calls) == 2
    assert [path.read_bytes() for path in (tmp_path / "plans").iterdir()] == [good]


def _value(content: dict) -> int:
    return int(content["value"])


def test_other_versions_and_sources_have_entries_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    assert __version__ in cache._makers()

    def find(what: object) -> int:
        return remembered(what, lambda: len(list(tmp_path.rglob("*.json"))), int, int)

    assert [find("a"), find("b"), find("a")] == [0, 1, 0]
    monkeypatch.setattr(cache, "_makers", lambda: ["another version"])
    assert find("a") == 2


def test_a_cache_that_cannot_be_written_changes_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "file"))
    assert remembered("x", lambda: 7, int, int) == 7


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOOLKIT_CACHE", "TOOLKIT_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_root() == Path.home() / ".cache/toolkit"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_root() == Path("/x/toolkit")
    monkeypatch.setenv("TOOLKIT_HOME", "/home")
    assert cache_root() == Path("/home/cache")
    monkeypatch.setenv("TOOLKIT_CACHE", "/cache")
    assert cache_root() == Path("/cache")
