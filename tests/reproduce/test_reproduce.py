"""The reproductions, really run on a tiny model: only where a bundle comes from is another."""

import json
import math
from pathlib import Path

import pytest

from tests.support.bundles import export_tiny
from toolkit.data.dataset import random_rows, write_rows
from tools.bench import harness
from tools.reproduce import common, cosine, memory_and_length, mezo_and_mebp

LENGTHS = (8, 24)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], harness.Case]:
    folder = tmp_path_factory.mktemp("tiny")
    cases = {}
    for lowering in memory_and_length.LOWERINGS:
        bundle = export_tiny(folder / lowering, "llama", lowering=lowering, seq_lens=LENGTHS)
        for length in LENGTHS:
            data = folder / f"{length}.ptd"
            write_rows(data, random_rows(4, length, 150, 0))
            cases[length, lowering] = harness.Case(bundle, data)
    return cases


@pytest.fixture
def output(
    tiny: dict[tuple[int, str], harness.Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    def case(model: str, seq_len: int = 256, lowering: str = "mesp") -> harness.Case:
        return tiny[seq_len, lowering]

    monkeypatch.setattr(harness, "case", case)
    return tmp_path / "results"


def results(output: Path, name: str) -> dict[str, dict[str, object]]:
    assert (output / f"{name}.png").stat().st_size > 5000
    return json.loads((output / f"{name}.json").read_text())["results"]


def test_the_table_of_mezo_and_mebp(output: Path) -> None:
    words = ["tiny", "--seq-len", "24", "--steps", "2", "--rounds", "1", "--output", str(output)]
    assert mezo_and_mebp.main(words) == 0
    found = results(output, "mezo_and_mebp")
    assert [key.split()[2] for key in found] == list(mezo_and_mebp.METHODS)
    assert all(row["value"]["seconds"] > 0 for row in found.values())


def test_memory_grows_with_length_and_losses_are_equal(output: Path) -> None:
    words = ["--model", "tiny", "--lengths", "8", "24", "--steps", "2", "--long", "5"]
    assert memory_and_length.main([*words, "--output", str(output)]) == 0
    assert len(results(output, "memory_and_length")) == 6


def test_the_cosine_is_what_theory_expects(output: Path) -> None:
    words = ["--model", "tiny", "--seq-len", "24", "--directions", "128", "--output", str(output)]
    assert cosine.main(words) == 0
    [found] = [row["value"] for row in results(output, "cosine").values()]
    assert found["queries"] == [2**i for i in range(8)]
    theory = math.sqrt(128 / (128 + found["dimensions"]))
    # The square of a cosine is q / d times a chi-squared of q over q, whose deviation is sqrt(2/q).
    assert found["cosines"][-1] == pytest.approx(theory, rel=0.4)


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    first = common.Results(tmp_path, "any")
    assert first.of("key", lambda: 1) == 1
    again = common.Results(tmp_path, "any")
    assert again.of("key", lambda: 2) == 1
    with pytest.raises(ZeroDivisionError):
        again.of("other", lambda: 1 / 0)
    assert set(common.Results(tmp_path, "any").values) == {"key"}
