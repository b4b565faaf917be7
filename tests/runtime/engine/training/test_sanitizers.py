"""The engine under Clang's sanitizers: a run with saves, its resumption, and an evaluation."""

import subprocess

import pytest

from tests.runtime.running import flags, records

# Spilled checkpoints, dropped weights and two threads: whatever runs beside something else.
SETTINGS = {
    "threads": 2,
    "optimizer": "adamw",
    "checkpoints": "spill",
    "page_cache": "drop",
    "max_grad_norm": 1.0,
    "save_every": 1,
    "eval_every": 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizers_find_nothing_in_the_engine(checked_build, case, tmp_path, sanitizer):
    trainer = checked_build(sanitizer) / "trainer"

    def run(command: str, **options: object) -> None:
        words = [trainer, command, *flags(**options)]
        result = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        assert "WARNING" not in result.stderr and "runtime error" not in result.stderr

    out = tmp_path / "run"
    options = case.options(out, **SETTINGS, eval_data=case.data)
    run("train", **options | {"steps": 2})
    run("train", **options | {"steps": 4, "resume": True})
    run("evaluate", bundle=case.bundle, data=case.data, adapter=case.adapter, threads=2)
    assert [record["step"] for record in records(out, "step")] == [1, 2, 3, 4]
