"""The trainer's executables as functions."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from toolkit.runtime import native_directory

ROOT = Path(__file__).resolve().parents[2]


def trainer() -> Path:
    return native_directory("trainer") / "trainer"


def probe_path() -> Path:
    """Return the executable that runs parts of the engine."""
    builds = sorted(ROOT.glob("build/*/trainer_probe"), key=lambda path: path.stat().st_mtime)
    if not builds:
        pytest.fail("trainer_probe is not built")
    return builds[-1]


def probe(*arguments: Any, stdin: bytes = b"", fails: bool = False) -> bytes:
    """Run one part of the engine and return what it printed, or its error message."""
    result = subprocess.run(
        [probe_path(), *map(str, arguments)], input=stdin, capture_output=True, check=False
    )
    assert result.returncode == (1 if fails else 0), result.stderr.decode()
    return result.stderr if fails else result.stdout


def flags(**options: Any) -> list[str]:
    """Return options as command-line words; None and False are left out, True is a switch."""
    words: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        words.append("--" + name.replace("_", "-"))
        if value is not True:
            words.append(str(value))
    return words


def run(command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a trainer command to its end."""
    words = [str(trainer()), command, *flags(**options)]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    if check:
        assert result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"
    return result


def error_of(command: str, code: int = 1, **options: Any) -> str:
    """Run a command that must fail with one line on stderr and return that line."""
    result = run(command, check=False, **options)
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def records(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return a trace's records, all or those of one type."""
    lines = (folder / "trace.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if kind in (None, r["type"])]


@dataclass(frozen=True)
class Case:
    """A folder with bundle, adapter and data of one tiny model."""

    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter.ptd"

    @property
    def data(self) -> Path:
        return self.folder / "train.ptd"

    @property
    def other_length(self) -> Path:
        return self.folder / "other.ptd"

    def options(self, out: Path, **options: Any) -> dict[str, Any]:
        """Return options of `train` with the case's files; what is given wins."""
        files = {"bundle": self.bundle, "data": self.data, "adapter": self.adapter}
        return {**files, "out": out, "steps": 3, "threads": 1, **options}

    def train(self, out: Path, **options: Any) -> Path:
        """Train to the end and return the run directory."""
        run("train", **self.options(out, **options))
        return out

    def losses(self, out: Path) -> list[float]:
        return [record["loss"] for record in records(out, "step")]
