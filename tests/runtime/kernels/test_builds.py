"""The kernels as Clang builds them, which is what the NDK brings, and under its sanitizers."""

import os
import subprocess
import sys

import pytest

from tests.runtime.conftest import RUNTIME, clang
from tests.runtime.kernels.native import available_isas

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
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizers_find_nothing_in_the_kernels(clang_build, sanitizer):
    """Every kernel on odd shapes, with 1, 2 and 4 threads, and what the threads stand on."""
    probe = clang_build(sanitizer) / "kernels_probe"

    def run(*words: object) -> list[str]:
        result = subprocess.run([probe, *map(str, words)], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return result.stdout.splitlines()

    assert run("kernels") == available_isas()
    assert len(run("threads", 3, 120, 4)) == 120
    assert run("throws", 3) == [f"thread {thread}: 100" for thread in range(3)]
    assert run("chores", 3)[-1].split()[0] == "twice"
    assert len(run("sweeps", 1, 641)) == 2 * len(available_isas())


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
