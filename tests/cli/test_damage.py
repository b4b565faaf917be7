"""Files damaged at random: every command says so in a line, or gives what it gives without damage.

No command may crash, hang, or end well with another result. TOOLKIT_SOAK=N tries so many in all.
"""

import json
import os
import re
import shutil
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.support.bundles import export_with_tokenizer
from tests.support.damage import damage, meaningful
from toolkit.cli.main import app

HANG_SECONDS = 120
BY_SIGNAL = re.compile(r"signal|code 1(2[89]|[3-9]\d)\b|Segmentation|Aborted")


class Hang(Exception):
    """A command that does not end; no OSError, which commands explain."""


@dataclass(frozen=True)
class Scenario:
    """A command, the files whose damage it may meet, and what it makes.

    Attributes:
        words: Of the command, in the folder of `healthy`.
        files: Patterns in that folder.
        result: What it made, from the folder and standard output; equal for equal results.
    """

    words: str
    files: tuple[str, ...]
    result: Callable[[Path, str], Any]


def printed(_: Path, output: str) -> Any:
    return json.loads(output)


def tree(*names: str) -> Callable[[Path, str], Any]:
    """Return what reads folders: files by name, JSON by its meaning."""

    def read(folder: Path, _: str) -> Any:
        paths = sorted(path for name in names for path in (folder / name).rglob("*"))
        return {str(path): content(path) for path in paths if path.is_file()}

    return read


def content(path: Path) -> Any:
    # Times differ from run to run, and a trace carries no checksums: a killed run's can be read.
    if path.name in (".deployed.json", "trace.jsonl", "trainer.log", "report.html"):
        return None
    return json.loads(path.read_bytes()) if path.suffix == ".json" else path.read_bytes()


def trained(run: str) -> Callable[[Path, str], Any]:
    """Return what reads a run's adapter and state."""

    def read(folder: Path, _: str) -> Any:
        names = ("adapter_model.safetensors", "state.bin")
        return [(folder / f"home/runs/{run}" / name).read_bytes() for name in names]

    return read


def all_accounted_for(folder: Path, output: str) -> bool:
    """Whether an analysis names as many lines as cannot be read at all."""
    *lines, _ = (folder / "one/trace.jsonl").read_bytes().split(b"\n")
    return json.loads(output)["left_out"]["lines"] >= sum(map(is_broken, lines))


def is_broken(line: bytes) -> bool:
    try:
        return bool(line.strip()) and not isinstance(json.loads(line), dict)
    except ValueError:
        return True


BUNDLE, DATA = ("bundle/*",), ("data/*",)
ADAPTER = ("one/adapter_*",)
SCENARIOS = {
    "inspect": Scenario("inspect bundle", BUNDLE, printed),
    "data": Scenario("data book.txt --tokenizer bundle -o new", BUNDLE, tree("new")),
    "deploy": Scenario(
        "deploy bundle --data data --name new", (*BUNDLE, *DATA),
        tree("home/bundles/new", "home/data/new"),
    ),
    "evaluate": Scenario(
        "evaluate bundle --data data --adapter one --threads 1", (*BUNDLE, *DATA, *ADAPTER), printed
    ),
    "verify": Scenario(
        "verify bundle --data data --samples 1 --threads 1", (*BUNDLE, *DATA), printed
    ),
    "train": Scenario(
        "train --adapter one --steps 1 --threads 1 --out two",
        (*ADAPTER, "home/bundles/bundle/*", "home/data/data/*"), trained("two"),
    ),
    "resume": Scenario(
        "train --resume --steps 3 --out one",
        ("home/runs/one/*", "home/bundles/bundle/*", "home/data/data/*"), trained("one"),
    ),
    "list": Scenario("list", ("home/*/*/*", "home/*/*/.deployed.json"), lambda *_: None),
    "pull": Scenario("pull one -o pulled --with-state", ("home/runs/one/*",), tree("pulled")),
    "analyze": Scenario("analyze one", ("one/trace.jsonl",), all_accounted_for),
}  # fmt: skip
TRIES = int(os.environ.get("TOOLKIT_SOAK", "20")) // len(SCENARIOS)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def toolkit(words: str):
    """Run a command; its result has the exception, if one came out."""
    with limited(HANG_SECONDS):
        return CliRunner().invoke(app, [*words.split(), "--json"])


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A folder with bundle, data, a device with both and a run, and that run pulled.

    `restore` makes it anew from a copy beside it.
    """
    work = tmp_path_factory.mktemp("damage") / "work"
    work.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.setenv("TOOLKIT_HOME", str(work / "home"))
        export_with_tokenizer(work / "bundle", seq_len=16)
        text = "".join(f"hello number {i}, how are you doing today\n" for i in range(20))
        (work / "book.txt").write_text(text)
        for words in (
            "data book.txt --tokenizer bundle -o data --validation 0.2",
            "deploy bundle --data data",
            "train --steps 2 --threads 1 --lr 0.01 --out one",
            "pull one -o one --with-state",
        ):
            result = toolkit(words)
            assert result.exit_code == 0, (words, result.output, result.exception)
        shutil.copytree(work, work.with_name("whole"))
        yield work


def restore(work: Path) -> None:
    for entry in work.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(work.with_name("whole"), work, dirs_exist_ok=True)


def targets(work: Path, scenario: Scenario) -> list[Path]:
    found = {path for pattern in scenario.files for path in work.glob(pattern)}
    return sorted(path for path in found if path.is_file() and path.stat().st_size)


def fault(result: Any, outcome: Any, expected: Any) -> str:
    """Return what is wrong with how a command met damage, or nothing."""
    if not isinstance(result.exception, SystemExit | None) or result.exit_code not in (0, 1):
        return f"{result.exit_code}: {result.exception!r}"
    if result.exit_code == 0:
        return "" if outcome == expected else "another result and no word"
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return "" if len(errors) == 1 and not BY_SIGNAL.search(errors[0]) else result.stderr


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_damage_passes_unseen(healthy, name):
    scenario = SCENARIOS[name]
    restore(healthy)
    undamaged = toolkit(scenario.words)
    assert undamaged.exit_code == 0, undamaged.output
    expected = scenario.result(healthy, undamaged.stdout)
    random = np.random.default_rng(zlib.crc32(name.encode()))
    faults = []
    for attempt in range(TRIES):
        restore(healthy)
        path = random.choice(targets(healthy, scenario))
        # Beside each other: what has a checksum but need not have one cannot lose it and more.
        damage(path, meaningful(path), random, scattered=False)
        result = toolkit(scenario.words)
        outcome = scenario.result(healthy, result.stdout) if result.exit_code == 0 else None
        if found := fault(result, outcome, expected):
            faults.append((attempt, str(path.relative_to(healthy)), found))
    assert not faults, "\n".join(map(str, faults))
