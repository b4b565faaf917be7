"""The programs of a model as lists of operators with shapes, and as JSON values."""

from dataclasses import astuple, dataclass
from math import prod
from typing import Any


@dataclass(frozen=True)
class Value:
    """A tensor of a program.

    Attributes:
        role: base, adapter, scalar, input, result or output.
        dtype: PyTorch's name, e.g. "float32".
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bits(self) -> int:
        """Bits of an element, which the dtype's name ends with."""
        return int(self.dtype.lstrip("abcdefghijklmnopqrstuvwxyz"))

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.bits // 8


@dataclass(frozen=True)
class Operation:
    """One operator call: its name and arguments in the order of its schema, and its results."""

    name: str
    arguments: tuple[Any, ...]
    results: tuple[Value, ...]


@dataclass(frozen=True)
class Program:
    """One method: operators in order, and the frozen tensors it is given."""

    name: str
    operations: tuple[Operation, ...]
    base: tuple[Value, ...]
    adapters: tuple[Value, ...]


@dataclass(frozen=True)
class Traced:
    """The programs of one model by name, with the sizes that are in none of them.

    Attributes:
        blocks: Layers of every kind of block, whose programs are KIND_forward and _backward.
        hidden_size: D.
    """

    blocks: dict[str, tuple[int, ...]]
    hidden_size: int
    programs: dict[str, Program]

    @property
    def layers(self) -> int:
        return sum(map(len, self.blocks.values()))

    @property
    def lowest(self) -> int:
        """The lowest layer with adapters, with which a backward pass ends."""
        return min(i for kind, own in self.blocks.items() if self.adapters(kind) for i in own)

    def adapters(self, kind: str) -> tuple[Value, ...]:
        """Return the adapter tensors of a layer of this kind."""
        return self.programs[f"{kind}_forward"].adapters

    @property
    def keeps(self) -> bool:
        """Whether blocks keep something beside their inputs, which their backward then reads."""
        read = (
            argument
            for name, program in self.programs.items()
            if name.endswith("_backward")
            for operation in program.operations
            for argument in operation.arguments
        )
        return any(isinstance(a, Value) and (a.name, a.role) == ("kept", "input") for a in read)

    def methods(
        self, backward: bool = True, computed: int | None = None
    ) -> list[tuple[str, str, int]]:
        """Return phase, program and number of runs of what a training step runs, in its order.

        Args:
            backward: Whether it has a backward pass.
            computed: Layers, from the lowest up; with fewer than all the loss is elsewhere, too.
        """
        top = self.layers if computed is None else computed
        blocks, lowest = self._below(top).items(), self.lowest
        forward = [("forward", f"{kind}_forward", len(layers)) for kind, layers in blocks]
        if not backward:
            return [("embed", "embed", 1), *forward, ("head", "head_loss", 1)]
        counts = [(kind, sum(i >= lowest for i in layers)) for kind, layers in blocks]
        return [
            ("embed", "embed", 1),
            *forward,
            *([("head", "head_backward", 1)] if top == self.layers else []),
            *(("backward", f"{kind}_backward", count) for kind, count in counts if count),
        ]

    def _below(self, top: int) -> dict[str, tuple[int, ...]]:
        below = {kind: tuple(i for i in own if i < top) for kind, own in self.blocks.items()}
        return {kind: own for kind, own in below.items() if own}


def to_json(traced: Traced) -> dict[str, Any]:
    """Return what `from_json` reads."""
    return {
        "blocks": traced.blocks,
        "hidden_size": traced.hidden_size,
        "programs": [_program_to_json(program) for program in traced.programs.values()],
    }


def from_json(content: dict[str, Any]) -> Traced:
    """Undo `to_json`.

    Raises:
        KeyError, TypeError, ValueError, IndexError: It is not what `to_json` makes.
    """
    programs = [_program_from_json(program) for program in content["programs"]]
    return Traced(
        {str(kind): tuple(map(int, layers)) for kind, layers in content["blocks"].items()},
        int(content["hidden_size"]),
        {program.name: program for program in programs},
    )


def _program_to_json(program: Program) -> dict[str, Any]:
    places: dict[Value, int] = {}

    def place(value: Any) -> Any:
        if isinstance(value, Value):
            return [places.setdefault(value, len(places))]  # a list, to tell it from a number
        return value

    operations = [
        [
            operation.name,
            [place(a) for a in operation.arguments],
            [place(r) for r in operation.results],
        ]
        for operation in program.operations
    ]
    base, adapters = [place(v) for v in program.base], [place(v) for v in program.adapters]
    return {
        "name": program.name,
        "operations": operations,
        "base": base,
        "adapters": adapters,
        "values": [astuple(value) for value in places],
    }


def _program_from_json(content: dict[str, Any]) -> Program:
    values = [
        Value(str(name), str(role), tuple(map(int, shape)), str(dtype))
        for name, role, shape, dtype in content["values"]
    ]

    def resolve(arguments: list[Any]) -> tuple[Any, ...]:
        return tuple(values[a[0]] if isinstance(a, list) else a for a in arguments)

    return Program(
        str(content["name"]),
        tuple(Operation(str(n), resolve(a), resolve(r)) for n, a, r in content["operations"]),
        resolve(content["base"]),
        resolve(content["adapters"]),
    )
