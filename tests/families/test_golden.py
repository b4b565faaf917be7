"""What a step does, operator by operator, as text: one file for every family and lowering.

A change of the graphs shows as a difference here. To write the files anew:

    python -m tests.families.test_golden
"""

import difflib
from pathlib import Path

import pytest

from tests.support.tiny import tiny_config
from toolkit.choices import LOWERINGS
from toolkit.families import FAMILIES
from toolkit.planning.settings import Settings
from toolkit.planning.tracing import trace_programs

FOLDER = Path(__file__).parent / "golden"


def operator_list(family: str, lowering: str) -> str:
    """Return every program's operators in order, their arguments and the shapes of their results.

    T = 8; arguments are tensors by name, and numbers.
    """
    settings = Settings(seq_len=8, lowering=lowering)
    lines = []
    for program in trace_programs(tiny_config(family), settings).values():
        lines.append(f"{program.name}:")
        for operation in program.operations:
            shapes = ", ".join(str(list(value.shape)) for value in operation.results)
            reads = [_written(argument) for argument in operation.arguments]
            lines.append(f"  {operation.name}({', '.join(filter(None, reads))}) -> {shapes}")
    return "\n".join(lines) + "\n"


def _written(argument: object) -> str:
    """Return a number, or the name of a tensor; weights and adapters, being several, have one."""
    if argument is None or isinstance(argument, bool | int | float):
        return str(argument).lower()
    name = getattr(argument, "name", "")
    if not name or name.endswith((".scale", ".offset", ".lora_B.weight")):
        return ""
    for end in (".codes", ".lora_A.weight"):
        name = name.removesuffix(end)
    role = "lora " if getattr(argument, "role", "") == "adapter" else ""
    return role + name.removeprefix("layers.{layer}.")


CASES = [(f, m) for f in FAMILIES for m in LOWERINGS if (f, m) != ("olmo2", "ms-bp")]
"""The norms of OLMo 2 feed no linear layer."""


@pytest.mark.parametrize(("family", "lowering"), CASES)
def test_operators_are_as_written_down(family, lowering):
    path = FOLDER / f"{family}-{lowering}.txt"
    expected = path.read_text() if path.is_file() else ""
    found = operator_list(family, lowering)
    difference = difflib.unified_diff(
        expected.splitlines(), found.splitlines(), str(path), "now", lineterm=""
    )
    assert found == expected, "\n".join(difference)


def test_no_file_is_left_over():
    wanted = {f"{family}-{lowering}.txt" for family, lowering in CASES}
    assert {path.name for path in FOLDER.iterdir()} == wanted


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        (FOLDER / f"{'-'.join(case)}.txt").write_text(operator_list(*case))
