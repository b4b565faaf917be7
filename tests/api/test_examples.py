"""Every example of docs and docstrings: Python's are run, commands are held against the flags."""

import doctest
import importlib
import inspect
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import toolkit
import toolkit.api
from tests.api.conftest import block, local
from toolkit.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MODULES = [
    "toolkit.settings.training",
    *(f"toolkit.api.{module.name}" for module in pkgutil.iter_modules(toolkit.api.__path__)),
]


def examples() -> list[doctest.DocTest]:
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        tests = doctest.DocTestFinder(exclude_empty=True).find(module)
        found += [test for test in tests if test.examples]
    return found


@pytest.mark.parametrize("test", examples(), ids=lambda test: test.name)
def test_docstrings(here, test):
    for example in test.examples:
        example.source = local(example.source)
    test.globs = {"toolkit": toolkit}
    said = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert not failed, "".join(said)


def test_everything_public_is_explained():
    for name in toolkit.__all__:
        value = getattr(toolkit, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert inspect.getdoc(value), name
    functions = [getattr(toolkit, name) for name in toolkit.__all__]
    functions = [value for value in functions if inspect.isfunction(value)]
    assert {value.__name__ for value in functions} <= {t.name.split(".")[-1] for t in examples()}


def test_the_readme_has_the_packages_example():
    ours = [line for line in block(toolkit.__doc__).splitlines() if line]
    theirs = [line for line in block(README).splitlines() if line]
    assert theirs == ["import toolkit", *ours]


def commands() -> list[str]:
    """Return the command lines in README and in the help of every command."""
    found = re.findall(r"^    (?:\$ |\.venv/bin/)?(toolkit .*)$", README, re.MULTILINE)
    for name in main.COMMANDS:
        help = main._load(name).help or ""
        found += re.findall(r"^ +(toolkit .*)$", help, re.MULTILINE)
    found += re.findall(r"^  (toolkit .*)$", main._EPILOG, re.MULTILINE)
    return sorted({line.partition("#")[0].partition("|")[0].strip() for line in found})


@pytest.mark.parametrize("line", commands())
def test_commands_are_ones_that_there_are(line):
    if line.endswith("..."):
        line = line.removesuffix("...")
    name, *words = shlex.split(line)[1:]
    command = main._load(name)
    assert command.make_context(name, words).command is command
