"""Bundles and data of tiny models, exported once, and the trainer run as a process."""

from pathlib import Path

import pytest

from tests.oracle.rows import mixed_rows
from tests.runtime.running import Case
from tests.support.bundles import export_tiny
from toolkit.bundle.bundle import Bundle
from toolkit.data.dataset import write_rows
from toolkit.oracle.verification import write_perturbed_adapter

SEQ_LENS = (24, 40)
TOGETHER = 48
"""Tokens of two sequences of the first length, computed together."""
VOCAB = 150
RANK_8BIT = 64
"""With it the larger half of a tiny model's adapter has optimizer states of 8 bits."""


@pytest.fixture(scope="session")
def make_case(tmp_path_factory: pytest.TempPathFactory):
    """Return a function that makes a bundle, a perturbed adapter and data, once per model."""
    made: dict[tuple[str, bool, str, int], Case] = {}

    def make(
        family: str = "llama", tied: bool = True, lowering: str = "mesp", rank: int = 4
    ) -> Case:
        key = (family, tied, lowering, rank)
        if key not in made:
            folder = tmp_path_factory.mktemp("trainer")
            bundle = export_tiny(
                *(folder / "bundle", family), tied=tied, lowering=lowering, layers=3,
                seq_lens=(*SEQ_LENS, TOGETHER), rank=rank,
            )  # fmt: skip
            write_perturbed_adapter(Bundle.open(bundle), folder / "adapter.ptd", seed=3)
            write_rows(folder / "train.ptd", mixed_rows(SEQ_LENS[0], VOCAB, seed=1))
            write_rows(folder / "other.ptd", mixed_rows(SEQ_LENS[1], VOCAB, seed=2))
            made[key] = Case(folder)
        return made[key]

    return make


@pytest.fixture
def case(make_case) -> Case:
    """The model used where any will do."""
    return make_case()


@pytest.fixture
def case_8bit(make_case) -> Case:
    """A model with an adapter that is not small to adamw-8bit."""
    return make_case(rank=RANK_8BIT)


@pytest.fixture
def bundle_copy(case: Case, tmp_path: Path) -> Path:
    """A bundle whose files a test may damage."""
    copy = tmp_path / "bundle"
    copy.mkdir()
    for file in case.bundle.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy
