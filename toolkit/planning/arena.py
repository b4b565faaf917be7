"""The planned memory of a program, arranged as an export arranges it (`toolkit.arrange`).

Results live from the operator that makes them to the last one that reads them; inputs and outputs
belong to the caller.
"""

from toolkit.arrange import Lifetime, arrange
from toolkit.planning.graph import Program, Value

_ALIGNMENT = 16
_ENGINE_ALIGNMENT = 64


def arena_bytes(program: Program) -> int:
    """Return the bytes that the engine reserves for a method's intermediate tensors."""
    return round_up(arrange(_lifetimes(program))[1], _ENGINE_ALIGNMENT)


def _lifetimes(program: Program) -> list[Lifetime]:
    made: dict[Value, tuple[int, int]] = {}
    for index, operation in enumerate(program.operations):
        for argument in operation.arguments:
            if argument in made:
                made[argument] = (made[argument][0], index)
        for value in operation.results:
            if value.role == "result" and value.bytes:
                made[value] = (index, index)
    return [
        Lifetime(round_up(value.bytes, _ALIGNMENT), first, last)
        for value, (first, last) in made.items()
    ]


def round_up(value: int, multiple: int) -> int:
    """Return the least multiple that is not below a value."""
    return -(-value // multiple) * multiple
