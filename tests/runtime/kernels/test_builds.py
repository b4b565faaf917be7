"""The kernels as Clang builds them, which is what the NDK brings."""

import os
import subprocess
import sys

import pytest

from tests.runtime.conftest import RUNTIME, clang

REFERENCES = "tests/runtime/kernels/test_kernels.py"


@pytest.mark.slow
def test_clang_builds_kernels_that_match_the_references(clang_build):
    """Every operator on every instruction set; one process cannot load two operator libraries."""
    environment = os.environ | {"TOOLKIT_NATIVE_DIR": str(clang_build("optimized"))}
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "tails", REFERENCES]
    result = subprocess.run(
        words, cwd=RUNTIME.parents[1], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout and "skipped" not in result.stdout


@pytest.mark.slow
def test_clang_compiles_the_kernels_of_phones(tmp_path):
    """The sources of NEON and of plain C++, with the headers of the cross compiler."""
    sources = sorted((RUNTIME / "kernels" / "isa").glob("*.cc"))
    shared = ["--target=aarch64-linux-gnu", "-std=gnu++17", "-O1", "-Wall", "-Wextra", "-Werror"]
    words = [*shared, "-Wno-psabi", f"-I{RUNTIME}", "-DTOOLKIT_LANES=4", "-c", *map(str, sources)]
    defines = ["-DTOOLKIT_ISA=neon", "-DTOOLKIT_ISA_IS_NEON"]
    result = subprocess.run(
        [clang(), *defines, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("*.o"))) == len(sources)
