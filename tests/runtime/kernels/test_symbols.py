"""What the linker may merge: code compiled for one instruction set must stay with it."""

import subprocess
from pathlib import Path

import pytest

from tests.runtime.kernels.native import build_directories, integer_isas


def objects(isa: str) -> list[Path]:
    """The objects of an instruction set, from the build the tests run with or its build tree."""
    for build in build_directories():
        found = sorted(build.glob(f"kernels/CMakeFiles/toolkit_kernels_{isa}.dir/isa/*.o"))
        if found:
            return found
    return []


@pytest.mark.parametrize("isa", integer_isas())
def test_no_code_of_an_instruction_set_can_replace_another(isa):
    """Of the same weak symbol in several objects the linker keeps one, of whichever processor."""
    files = objects(isa)
    assert files, "no build tree: run `make setup`"
    assert may_be_merged(files, isa) == set()


def may_be_merged(files: list[Path], isa: str) -> set[str]:
    """Return the code of an instruction set's objects that others may have under the same name."""
    output = subprocess.run(
        ["nm", "--defined-only", "--demangle", *files], capture_output=True, text=True, check=True
    ).stdout
    symbols = [line.split(maxsplit=2) for line in output.splitlines()]
    shared = {s[2] for s in symbols if len(s) == 3 and s[1] in "WVu"}
    # The exception handler's address is data.
    shared -= {"DW.ref.__gxx_personality_v0"}
    return {name for name in shared if f"toolkit::{isa}::" not in name}
