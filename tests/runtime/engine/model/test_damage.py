"""Files damaged at random: the trainer says which and never crashes, hangs or trains on them.

TOOLKIT_SOAK=N tries so many in all.
"""

import os
import shutil

import numpy as np
import pytest

from tests.runtime.running import run
from tests.support.damage import damage, meaningful
from toolkit.bundle.flat_tensor import FlatTensorReader

FILES = ("programs.pte", "base.ptd", "adapter.ptd", "identity.ptd", "train.ptd", "state.bin")
TRIES = int(os.environ.get("TOOLKIT_SOAK", "60")) // len(FILES)


@pytest.fixture
def files(case, tmp_path):
    """A run of two steps, with the bundle and data it was made of."""
    shutil.copytree(case.bundle, tmp_path / "bundle")
    shutil.copy(case.data, tmp_path / "train.ptd")
    options = {"bundle": tmp_path / "bundle", "data": tmp_path / "train.ptd", "threads": 1}
    run("train", **options, out=tmp_path / "run", steps=2, trace="off")
    return tmp_path, options


@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_and_named(files, name):
    folder, options = files
    [path] = [p for p in folder.rglob(name) if p.name == name]
    whole, places = path.read_bytes(), meaningful(path)
    random = np.random.default_rng([FILES.index(name), 5])
    out = folder / "out"
    for attempt in range(TRIES):
        damage(path, places, random)
        shutil.rmtree(out, ignore_errors=True)
        if name == "state.bin":
            shutil.copytree(folder / "run", out)
        result = run(
            "train",
            check=False,
            **options,
            out=out,
            steps=3,
            trace="off",
            resume=name == "state.bin",
        )
        said = (attempt, result.returncode, result.stderr)
        assert result.returncode == 1, said
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, said
        assert name in result.stderr, said
        assert (out / "adapter_model.safetensors").exists() == (name == "state.bin"), said
        path.write_bytes(whole)
    shutil.rmtree(out)
    run("train", **options, out=out, steps=2, trace="off")


def test_every_byte_of_a_token_file_is_looked_at_or_padding(files):
    """The positions that the damage is drawn from leave out nothing but padding."""
    folder, _ = files
    path = folder / "train.ptd"
    data = bytearray(path.read_bytes())
    for place in meaningful(path):
        data[place] = 0
    assert not any(data)
    assert FlatTensorReader(folder / "bundle/base.ptd").keys()
