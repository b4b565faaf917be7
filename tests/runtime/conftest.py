"""Builds of the runtime with Clang, and under sanitizers, each made once a session."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.runtime.cases import bundle_copy, case, case_8bit, make_case  # noqa: F401  (fixtures)

RUNTIME = Path(__file__).resolve().parents[2] / "toolkit" / "runtime"
PLAIN = "-DTOOLKIT_PLAIN_KERNELS=ON"
# What reaches beyond an object AddressSanitizer sees too; these checks take two thirds of a build.
UNCHECKED = "-fno-sanitize=object-size,pointer-overflow"
QUICK = (f"-DTOOLKIT_KERNEL_OPTIONS=-O1;{UNCHECKED}", "-DTOOLKIT_PRECOMPILED_HEADERS=ON")


@dataclass(frozen=True)
class Build:
    """A compiler with its flags, the targets it makes, and options of CMake's."""

    compiler: str
    flags: str
    targets: tuple[str, ...]
    options: tuple[str, ...] = ()


# What a sanitizer finds ends the process. Only our code is instrumented, ExecuTorch's library is
# not. Threads meet in code that all instruction sets share; vectors reach over edges in each. To
# optimize what is instrumented takes most of a build, and only kernels compute long enough for it.
BUILDS = {
    "optimized": Build("clang++", "-O2", ("toolkit_operators",)),
    "address": Build(
        "clang++",
        "-O0 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all",
        ("kernels_probe", "trainer"),
        QUICK,
    ),
    "thread": Build(
        "clang++", "-O0 -g1 -fsanitize=thread", ("kernels_probe", "trainer"), (*QUICK, PLAIN)
    ),
    "gcc-address": Build("g++", "-O0 -fsanitize=address", ("kernels_probe",), (PLAIN,)),
}


def run(*words: object) -> None:
    # CMake and Ninja of this environment: a distribution's may be too old.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        list(map(str, words)), env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-8000:]


def compiler(name: str) -> str:
    """Return the path of a compiler; without it the test is skipped, or fails in CI."""
    found = shutil.which(name)
    if found is None:
        message = f"no {name}: apt-get install clang libclang-rt-14-dev g++"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def checked_build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of one of the builds; warnings are errors."""

    @cache
    def make(kind: str) -> Path:
        build = BUILDS[kind]
        folder = tmp_path_factory.mktemp(f"build-{kind}")
        run(
            *("cmake", "-S", RUNTIME, "-B", folder, "-G", "Ninja"),
            f"-DCMAKE_CXX_COMPILER={compiler(build.compiler)}",
            "-DCMAKE_BUILD_TYPE=Checked",  # no flags of CMake's or ours beside these
            f"-DCMAKE_CXX_FLAGS_CHECKED={build.flags}",
            "-DTOOLKIT_WARNINGS_AS_ERRORS=ON",
            f"-DEXECUTORCH_ROOT={find_spec('executorch').submodule_search_locations[0]}",
            *build.options,
        )
        run("cmake", "--build", folder, "--target", *build.targets)
        return folder

    return make
