"""The planned memory of a program: what ExecuTorch's greedy planner will give it.

Results live from the operator that makes them to the last one that reads them; inputs and outputs
belong to the caller. Follows `executorch.exir.memory_planning.greedy` (1.5): large tensors first,
each into the first block that is free for its lifetime, else behind what overlaps with it in a
block, else into a block of its own.
"""

from dataclasses import dataclass, field

from toolkit.planning.graph import Program, Value

_ALIGNMENT = 16
_ENGINE_ALIGNMENT = 64


@dataclass
class _Tensor:
    size: int
    first: int
    last: int

    def meets(self, other: "_Tensor") -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass
class _Block:
    size: int
    tensors: list[tuple[int, _Tensor]] = field(default_factory=list)

    def end_of_overlap(self, tensor: _Tensor) -> int:
        ends = (offset + other.size for offset, other in self.tensors if other.meets(tensor))
        return max(ends, default=0)


def arena_bytes(program: Program) -> int:
    """Return the bytes that the engine reserves for a method's intermediate tensors."""
    blocks: list[_Block] = []
    for tensor in sorted(_lifetimes(program), key=lambda tensor: (-tensor.size, -tensor.first)):
        _place(blocks, tensor)
    return _round_up(sum(block.size for block in blocks), _ENGINE_ALIGNMENT)


def _place(blocks: list[_Block], tensor: _Tensor) -> None:
    for block in blocks:
        if not block.end_of_overlap(tensor):
            block.tensors.append((0, tensor))
            return
    for block in blocks:
        end = block.end_of_overlap(tensor)
        if end + tensor.size <= block.size:
            block.tensors.append((end, tensor))
            return
    blocks.append(_Block(tensor.size, [(0, tensor)]))


def _lifetimes(program: Program) -> list[_Tensor]:
    tensors: dict[Value, _Tensor] = {}
    for index, operation in enumerate(program.operations):
        for argument in operation.arguments:
            if argument in tensors:
                tensors[argument].last = index
        for value in operation.results:
            if value.role == "result" and value.bytes:
                tensors[value] = _Tensor(_round_up(value.bytes, _ALIGNMENT), index, index)
    return list(tensors.values())


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
