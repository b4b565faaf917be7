"""From a traced function to ExecuTorch: make_fx, torch.export, edge, executorch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx

from toolkit.programs.block import Binding


@dataclass(frozen=True)
class Function:
    """A pure function with the names, shapes and dtypes of its inputs and outputs."""

    name: str
    call: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: list[Binding]
    outputs: list[Binding]


@dataclass(frozen=True)
class MethodReport:
    """What a lowered method consists of: operator names and planned bytes."""

    operators: list[str]
    arena_bytes: int


class _Traced(nn.Module):
    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__()
        self.graph_module = graph

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.graph_module(*inputs)


def trace(function: Function) -> ExportedProgram:
    """Trace and export one function; unused recomputation is dropped."""
    examples = tuple(binding.example() for binding in function.inputs)
    graph = make_fx(function.call, decomposition_table=DECOMPOSITIONS, tracing_mode="fake")(
        *examples
    )
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return torch.export.export(_Traced(graph), examples, strict=False)


def lower(
    functions: list[Function], constants: dict[str, object]
) -> tuple[bytes, dict[str, MethodReport]]:
    """Lower functions into one .pte whose inputs and outputs belong to the caller.

    Args:
        functions: One method each.
        constants: Constant methods: numbers, strings or lists of them.

    Returns:
        The program's bytes and a report for each method.
    """
    # Imported here because it takes seconds, which planning and inspecting need not wait for.
    from executorch.exir import (
        EdgeCompileConfig,
        ExecutorchBackendConfig,
        to_edge_transform_and_lower,
    )
    from executorch.exir.passes import MemoryPlanningPass

    edge = to_edge_transform_and_lower(
        {function.name: trace(function) for function in functions},
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
        constant_methods=constants,
    )
    planning = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
    program = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    names = {function.name for function in functions}
    reports = {
        plan.name: MethodReport(
            operators=[operator.name for operator in plan.operators],
            arena_bytes=sum(plan.non_const_buffer_sizes),
        )
        for plan in program.executorch_program.execution_plan
        if plan.name in names
    }
    return program.buffer, reports


def _add(a: Tensor, b: Tensor, *, alpha: float = 1) -> Tensor:
    if alpha != 1 or a.shape != b.shape:
        return NotImplemented
    return torch.ops.toolkit.add(a, b)


DECOMPOSITIONS = {
    torch.ops.aten.add.Tensor: _add,
    torch.ops.aten.detach.default: lambda x: x,
}
"""What leaves a traced graph: only our own operators remain."""
