"""Bundles of tiny random models, each exported once."""

import functools
from pathlib import Path

import pytest

from tests.support.bundles import export_tiny


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory):
    """Return a function that exports a tiny random model once per set of arguments."""

    @functools.cache
    def make(
        family: str, tied: bool, lowering: str = "mesp", seq_lens: tuple[int, ...] = (24, 48)
    ) -> Path:
        folder = tmp_path_factory.mktemp("bundle") / f"{family}-{lowering}"
        export_tiny(folder, family, tied=tied, lowering=lowering, seq_lens=seq_lens)
        return folder

    return make
