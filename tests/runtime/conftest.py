"""Builds of the runtime with Clang, plain and under sanitizers, each made once a session."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.runtime.cases import bundle_copy, case, make_case  # noqa: F401  (fixtures)

RUNTIME = Path(__file__).resolve().parents[2] / "toolkit" / "runtime"
# What is found ends the process. Only our code is instrumented, ExecuTorch's library is not.
FLAGS = {
    "optimized": "-O2",
    "address": "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all",
    "thread": "-O1 -g1 -fsanitize=thread",
}
TARGETS = {
    "optimized": ["toolkit_operators", "kernels_probe"],
    "address": ["kernels_probe", "trainer"],
    "thread": ["kernels_probe", "trainer"],
}


def run(*words: object) -> None:
    # CMake and Ninja of this environment: a distribution's may be too old.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        list(map(str, words)), env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-8000:]


def clang() -> str:
    found = shutil.which("clang++")
    if found is None:
        message = "no clang++: apt-get install clang libclang-rt-14-dev"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def clang_build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of one of the builds; warnings are errors."""

    @cache
    def build(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(f"clang-{kind}")
        run(
            *("cmake", "-S", RUNTIME, "-B", folder, "-G", "Ninja"),
            f"-DCMAKE_CXX_COMPILER={clang()}",
            "-DCMAKE_BUILD_TYPE=Checked",  # no flags of CMake's or ours beside these
            f"-DCMAKE_CXX_FLAGS_CHECKED={FLAGS[kind]}",
            "-DTOOLKIT_WARNINGS_AS_ERRORS=ON",
            f"-DEXECUTORCH_ROOT={find_spec('executorch').submodule_search_locations[0]}",
        )
        run("cmake", "--build", folder, "--target", *TARGETS[kind])
        return folder

    return build
