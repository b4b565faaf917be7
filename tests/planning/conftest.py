"""Bundles of tiny random models, each exported once, and runs of the trainer on them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundles import export_tiny
from tests.support.trainer import read_trace, run_trainer
from toolkit.data.dataset import random_rows, write_rows
from toolkit.lora import PROJECTIONS, LoraSettings

LENGTHS = (24, 136)
VOCABULARY = 150


@dataclass(frozen=True)
class TinyRun:
    """A run of two steps, and what the engine's dry run said of it before.

    Attributes:
        stored: Bytes of the run's folder at its end, without the trace.
    """

    dry: dict[str, Any]
    stored: int
    device: dict[str, Any]
    phases: list[dict[str, Any]]
    steps: list[dict[str, Any]]


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(("llama", True, "mesp", ""), id="llama-tied-mesp"),
        pytest.param(("qwen2", False, "mebp", ""), id="qwen2-untied-mebp"),
        pytest.param(("olmo2", True, "mesp", "1"), id="olmo2-one-layer"),
    ],
)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, tied, lowering, subset = request.param
    lora = LoraSettings(4, 8.0, PROJECTIONS, layers=subset)
    folder = tmp_path_factory.mktemp("planned") / lowering
    options = {"tied": tied, "lowering": lowering, "layers": 3, "lora": lora}
    return export_tiny(folder, family, seq_lens=LENGTHS, **options)


@pytest.fixture
def train(bundle: Path, tmp_path: Path) -> Callable[..., TinyRun]:
    """Return a function that trains for two steps with given flags."""

    def run(seq_len: int, **flags: Any) -> TinyRun:
        data = tmp_path / f"{seq_len}.ptd"
        rows = random_rows(8, seq_len, VOCABULARY, 0)
        rows.labels[:, 0] = -100  # the head takes most scratch where most rows count, but not all
        write_rows(data, rows)
        out = tmp_path / "run"
        fixed = {"bundle": bundle, "data": data, "out": out, "steps": 2, "trace": "full"}
        words = [
            word
            for name, value in {**fixed, **flags}.items()
            for word in (f"--{name.replace('_', '-')}", value)
        ]
        [dry] = run_trainer("dry-run", *words)
        assert not out.exists()
        run_trainer("train", *words)
        files = (path for path in out.rglob("*") if path.is_file() and path.name != "trace.jsonl")
        stored = sum(path.stat().st_size for path in files)
        device = read_trace(out, "run")[0]["device"]
        return TinyRun(dry, stored, device, read_trace(out, "phase"), read_trace(out, "step"))

    return run
