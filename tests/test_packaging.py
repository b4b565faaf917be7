"""What `pip install .` needs is what pyproject.toml asks for, also where the build is isolated."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(requirements: list[str]) -> dict[str, str]:
    """Return the pinned versions by name; every requirement has to be pinned."""
    found = {}
    for requirement in requirements:
        name, pinned, version = requirement.partition("==")
        assert pinned, requirement
        found[name.partition("[")[0]] = version
    return found


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_an_isolated_build_has_what_cmake_looks_for():
    requires = pins(PROJECT["build-system"]["requires"])
    installed = pins(PROJECT["project"]["dependencies"])
    developing = pins(PROJECT["project"]["optional-dependencies"]["dev"])
    # Headers and library of the build are those that the trainer runs with.
    assert requires["executorch"] == installed["executorch"]
    assert requires["scikit-build-core"] == developing["scikit-build-core"]
    lists = (ROOT / "toolkit/runtime/CMakeLists.txt").read_text()
    minimum = re.search(r"cmake_minimum_required\(VERSION ([\d.]+)\)", lists)[1]
    for versions in (requires, installed):  # `toolkit runtime build` compiles, too
        assert numbers(versions["cmake"]) >= numbers(minimum)
        assert "ninja" in versions


def test_every_package_that_cmake_looks_for_is_known():
    """A new find_package() needs an entry in build-system.requires, or a name here."""
    files = [ROOT / "toolkit/runtime/CMakeLists.txt", *(ROOT / "toolkit/runtime").rglob("*.cmake")]
    files += (ROOT / "toolkit/runtime").rglob("CMakeLists.txt")
    wanted = {name for f in files for name in re.findall(r"find_package\((\w+)", f.read_text())}
    assert wanted <= {"Threads", "Python3", "executorch", "Java"}, wanted
