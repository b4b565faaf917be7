"""A folder as a user has one: a tiny model, chats, and what the API's example makes of them."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import toolkit
from tests.support.workplace import make_workplace

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
STEPS = 5


@dataclass
class Workplace:
    """The folder, and the names that the example left."""

    folder: Path
    names: dict[str, Any]


def local(code: str) -> str:
    """Return code with the tiny model in place of the hub's, and fewer steps and tokens."""
    return (
        code.replace(HUB_ID, "model").replace("steps=50", f"steps={STEPS}").replace("[256]", "[64]")
    )


def block(text: str) -> str:
    """Return the first indented block of Python that exports a model."""
    for part in re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE):
        if "toolkit.export(" in part:
            return textwrap.dedent(part)
    raise AssertionError("there is no example")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Return the folder in which the package's own example has run."""
    folder = tmp_path_factory.mktemp("api")
    make_workplace(folder)
    names: dict[str, Any] = {"toolkit": toolkit}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TOOLKIT_HOME", str(folder / "home"))
        exec(local(block(toolkit.__doc__ or "")), names)
    return Workplace(folder, names)


@pytest.fixture
def here(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """Work in that folder."""
    monkeypatch.chdir(workplace.folder)
    monkeypatch.setenv("TOOLKIT_HOME", str(workplace.folder / "home"))
    return workplace
