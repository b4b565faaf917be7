"""The kernels as Clang builds them, which is what the NDK brings, and under sanitizers."""

import os
import subprocess
import sys

import pytest

from tests.runtime.conftest import BUILDS, PLAIN, RUNTIME, compiler
from tests.runtime.kernels.native import available_isas, integer_isas
from tests.runtime.kernels.test_symbols import may_be_merged

REFERENCES = "tests/runtime/kernels/test_kernels.py"


@pytest.mark.slow
def test_clang_builds_kernels_that_match_the_references(checked_build):
    """Every operator on every instruction set; one process cannot load two operator libraries."""
    environment = os.environ | {"TOOLKIT_NATIVE_DIR": str(checked_build("optimized"))}
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "tails", REFERENCES]
    result = subprocess.run(
        words, cwd=RUNTIME.parents[1], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout and "skipped" not in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("isa", integer_isas())
def test_no_code_of_an_instruction_set_can_replace_another_in_builds_of_clang(checked_build, isa):
    folder = checked_build("optimized")
    files = sorted(folder.glob(f"kernels/CMakeFiles/toolkit_kernels_{isa}.dir/isa/*.o"))
    assert files
    assert may_be_merged(files, isa) == set()


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizers_find_nothing_in_the_kernels(checked_build, sanitizer):
    """Every kernel on odd shapes, with one thread and with four, and what threads stand on."""
    probe = checked_build(sanitizer) / "kernels_probe"
    isas = ["plain"] if PLAIN in BUILDS[sanitizer].options else available_isas()

    def run(*words: object) -> list[str]:
        result = subprocess.run([probe, *map(str, words)], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return result.stdout.splitlines()

    assert {*run("kernels", 4)} == {
        *(f"{isa} float32" for isa in isas),
        *(f"{isa} fixed16" for isa in (isas if isas == ["plain"] else integer_isas())),
    }
    assert len(run("threads", 3, 120, 4)) == 120
    assert run("throws", 3) == [f"thread {thread}: 100" for thread in range(3)]
    assert run("chores", 3)[-1].split()[0] == "twice"
    assert len(run("sweeps", 1, 641)) == 2 * len(isas)


@pytest.mark.slow
@pytest.mark.parametrize("build", ["address", "gcc-address"])
@pytest.mark.parametrize("size", [100, 128])
def test_address_sanitizers_see_the_end_of_scratch(checked_build, build, size):
    """Its last byte is the kernel's; the next is not, though it lies in the same mapping."""
    probe = checked_build(build) / "kernels_probe"

    def write(place: int) -> subprocess.CompletedProcess[str]:
        words = [probe, "overrun", str(size), str(place)]
        return subprocess.run(words, capture_output=True, text=True)

    for place in (0, size - 1):
        result = write(place)
        assert (result.returncode, result.stderr) == (0, ""), place
    for place in (size, size + 63):
        result = write(place)
        assert result.returncode != 0, place
        assert "AddressSanitizer: use-after-poison" in result.stderr


NEON = {
    "neon": ("*.cc", ()),
    "neon_dotprod": ("fixed16*.cc", ("-march=armv8.2-a+dotprod", "-DTOOLKIT_DOTPROD")),
    "neon_i8mm": (
        "fixed16*.cc",
        ("-march=armv8.2-a+dotprod+i8mm", "-DTOOLKIT_DOTPROD", "-DTOOLKIT_I8MM"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("isa", NEON)
def test_clang_compiles_the_neon_kernels(tmp_path, isa):
    """With the headers of the cross compiler."""
    pattern, flags = NEON[isa]
    sources = sorted((RUNTIME / "kernels" / "isa").glob(pattern))
    shared = ["--target=aarch64-linux-gnu", "-std=gnu++17", "-O1", "-Wall", "-Wextra", "-Werror"]
    words = [*shared, "-Wno-psabi", f"-I{RUNTIME}", "-DTOOLKIT_LANES=4", "-c", *map(str, sources)]
    defines = [f"-DTOOLKIT_ISA={isa}", "-DTOOLKIT_ISA_IS_NEON", *flags]
    result = subprocess.run(
        [compiler("clang++"), *defines, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("*.o"))) == len(sources)
