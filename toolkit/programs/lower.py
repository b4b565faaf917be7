"""From a traced function to ExecuTorch: make_fx, torch.export, edge, executorch."""

import operator
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx

from toolkit.errors import ToolkitError
from toolkit.ops import elementwise
from toolkit.programs.block import Function
from toolkit.programs.memory import planning_pass


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
        outputs: Tensor | tuple[Tensor, ...] = self.graph_module(*inputs)
        return outputs


def trace(function: Function) -> ExportedProgram:
    """Trace and export one function; unused recomputation is dropped."""
    examples = tuple(binding.example() for binding in function.inputs)
    graph = make_fx(function.call, decomposition_table=DECOMPOSITIONS, tracing_mode="fake")(
        *examples
    )
    simplify(graph)
    _check_read(function, graph)
    _check_operators(function, graph)
    _check_overwritten(function, graph)
    return undecomposed(torch.export.export(_Traced(graph), examples, strict=False))


def undecomposed(program: ExportedProgram) -> ExportedProgram:
    """Spare a program of our own operators the search for what to decompose.

    It finds nothing there, and takes two thirds of a lowering's time.
    """

    def run_decompositions(*_arguments: object, **_options: object) -> ExportedProgram:
        return program

    program.run_decompositions = run_decompositions
    return program


def _check_operators(function: Function, graph: torch.fx.GraphModule) -> None:
    """What a layer computes beside its parts must have become operators of ours too."""
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target is not operator.getitem:
            name = str(node.target)
            if not name.startswith("toolkit."):
                raise ToolkitError(
                    f"{function.name} computes {name}, for which there is no operator",
                    "toolkit cannot train this architecture",
                )


def _check_read(function: Function, graph: torch.fx.GraphModule) -> None:
    """A forward that leaves a weight unread computes another model (a backward may: biases)."""
    if "backward" in function.name:
        return
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    for node, binding in zip(inputs, function.inputs, strict=True):
        kind, found, name = binding.name.partition(":")
        if found and not node.users:
            raise ToolkitError(
                f"{name} is not read by {function.name}",
                f"toolkit cannot train an architecture with this {kind} tensor",
            )


def _check_overwritten(function: Function, graph: torch.fx.GraphModule) -> None:
    """The runtime puts a new `grad` where the old one is: nothing may read that after the write."""
    if "grad" not in (binding.name for binding in function.inputs):
        return
    nodes = list(graph.graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"]
    old = inputs[[binding.name for binding in function.inputs].index("grad")]
    returned = nodes[-1].args[0]
    new = returned[[binding.name for binding in function.outputs].index("grad")]
    last_read = max(nodes.index(user) for user in old.users)
    if last_read > nodes.index(new):
        raise ValueError(f"{function.name} reads grad after {new.name} has overwritten it")


def simplify(graph: torch.fx.GraphModule) -> None:
    """Drop what is not needed, and compute norms again for the backward instead of keeping them."""
    graph.graph.eliminate_dead_code()
    again = (torch.ops.toolkit.rms_norm.default, torch.ops.toolkit.scale_features.default)
    for node in list(graph.graph.nodes):
        if node.target in again:
            _recompute_for_backward(graph.graph, node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _recompute_for_backward(graph: torch.fx.Graph, norm: torch.fx.Node) -> None:
    """Give the backward operators that use a norm a copy that is made right before the first."""
    users = [node for node in graph.nodes if norm in node.all_input_nodes]
    late = [node for node in users if "backward" in str(node.target)]
    if not late or late == users:
        return
    with graph.inserting_before(late[0]):
        copy = graph.node_copy(norm)
    for node in late:
        node.replace_input_with(norm, copy)


def lower(
    functions: list[Function], constants: dict[str, object], flexible: Collection[str] = ()
) -> tuple[bytes, dict[str, MethodReport]]:
    """Lower functions into one .pte whose inputs and outputs belong to the caller.

    Args:
        functions: One method each.
        constants: Constant methods: numbers, strings or lists of them.
        flexible: Names of those whose shapes are the largest that the method takes.

    Returns:
        The program's bytes and a report for each method.
    """
    # Imported here because it takes seconds, which planning and inspecting need not wait for.
    from executorch.exir import (
        EdgeCompileConfig,
        ExecutorchBackendConfig,
        to_edge_transform_and_lower,
    )

    edge = to_edge_transform_and_lower(
        {function.name: trace(function) for function in functions},
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
        constant_methods=constants,
    )
    planning = {f.name: planning_pass(f.name in flexible) for f in functions}
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


def _add(a: Tensor, b: Tensor, *, alpha: float = 1) -> Any:
    if alpha != 1 or a.shape != b.shape:
        return NotImplemented
    return elementwise.add(a, b)


def _mul(x: Tensor, factor: Tensor | float) -> Any:
    if not isinstance(factor, Tensor) or factor.dim():
        return NotImplemented
    return elementwise.scale(x, factor)


DECOMPOSITIONS: dict[OpOverload[..., Any], Callable[..., Any]] = {
    torch.ops.aten.add.Tensor: _add,
    torch.ops.aten.mul.Tensor: _mul,
    torch.ops.aten.detach.default: lambda x: x,
}
"""What leaves a traced graph: only our own operators remain."""
