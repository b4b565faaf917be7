"""What `pip install .` needs is what pyproject.toml asks for, also where the build is isolated."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


LINES = (ROOT / "tools/constraints.txt").read_text().splitlines()
LOCKED = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in LINES if not line.startswith("#"))
}
DECLARED = [
    *PROJECT["project"]["dependencies"],
    *PROJECT["dependency-groups"]["dev"],
    *PROJECT["project"]["optional-dependencies"]["datasets"],
    *PROJECT["project"]["optional-dependencies"]["tensorboard"],
    *PROJECT["build-system"]["requires"],
]


def requirement(name: str, wanted: list[str]) -> Requirement:
    return next(found for found in map(Requirement, wanted) if found.name == name)


def test_an_isolated_build_has_what_cmake_looks_for():
    requires = PROJECT["build-system"]["requires"]
    dependencies = PROJECT["project"]["dependencies"]
    # Headers and library of the build are those that the trainer runs with.
    for name in ("executorch", "cmake", "ninja"):  # `toolkit runtime build` compiles, too
        built, run = (requirement(name, words).specifier for words in (requires, dependencies))
        assert LOCKED[name] in built and LOCKED[name] in run
    assert requirement("executorch", requires) == requirement("executorch", dependencies)
    lists = (ROOT / "toolkit/runtime/CMakeLists.txt").read_text()
    minimum = re.search(r"cmake_minimum_required\(VERSION ([\d.]+)\)", lists)[1]
    for words in (requires, dependencies):
        found = requirement("cmake", words).specifier
        below = f"{minimum.rpartition('.')[0]}.0a0"
        assert not found.contains(below, prereleases=True)


@pytest.mark.parametrize("declared", DECLARED)
def test_what_is_locked_is_within_what_is_declared(declared):
    wanted = Requirement(declared)
    assert wanted.specifier.contains(LOCKED[canonicalize_name(wanted.name)])


def test_flower_fits_beside_us():
    """flwr 1.42 needs older versions of these than those that are locked."""
    for name, version in {"typer": "0.20.1", "rich": "14.3.0", "pyyaml": "6.0.2"}.items():
        assert requirement(name, PROJECT["project"]["dependencies"]).specifier.contains(version)
    assert requirement("protobuf", PROJECT["dependency-groups"]["dev"]).specifier.contains("6.33.0")


def test_every_python_that_is_declared_is_one_that_setup_takes():
    declared = SpecifierSet(PROJECT["project"]["requires-python"])
    versions = [f"3.{minor}" for minor in range(9, 16) if declared.contains(f"3.{minor}")]
    setup = (ROOT / "tools/setup").read_text()
    assert re.search(r"PYTHON:-([\w. ]+) python3\}", setup)[1].split() == [
        f"python{version}" for version in versions
    ]


def test_every_package_that_cmake_looks_for_is_known():
    """A new find_package() needs an entry in build-system.requires, or a name here."""
    files = [ROOT / "toolkit/runtime/CMakeLists.txt", *(ROOT / "toolkit/runtime").rglob("*.cmake")]
    files += (ROOT / "toolkit/runtime").rglob("CMakeLists.txt")
    wanted = {name for f in files for name in re.findall(r"find_package\((\w+)", f.read_text())}
    assert wanted <= {"Threads", "Python3", "executorch", "Java"}, wanted
