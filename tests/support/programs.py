"""Operator calls as ExecuTorch programs."""

import torch
from executorch.exir import (
    EdgeCompileConfig,
    ExecutorchBackendConfig,
    ExecutorchProgramManager,
    to_edge_transform_and_lower,
)
from executorch.exir.passes import MemoryPlanningPass
from torch import Tensor, nn

from toolkit.ops import OPERATORS
from toolkit.programs.lower import undecomposed


class Calls(nn.Module):
    """One graph that calls operators, each on its own arguments."""

    def __init__(self, calls: dict[str, list]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        remaining = iter(tensors)
        results = []
        for name, args in self.calls.items():
            given = [next(remaining) if isinstance(a, Tensor) else a for a in args]
            results += outputs_of(OPERATORS[name](*given))
        return results


def outputs_of(result: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    """Return an operator's result as a list."""
    return list(result) if isinstance(result, tuple) else [result]


def tensors_of(calls: dict[str, list]) -> list[Tensor]:
    """Return the inputs of the method made from these calls."""
    return [a for args in calls.values() for a in args if isinstance(a, Tensor)]


def lower_calls(methods: dict[str, dict[str, list]]) -> ExecutorchProgramManager:
    """Lower methods, each a dict of operator (without namespace) -> arguments in schema order.

    Inputs and outputs of the methods are the caller's; `.buffer` of the result is the .pte.
    """
    exported = {
        method: undecomposed(
            torch.export.export(Calls(calls), tuple(tensors_of(calls)), strict=False)
        )
        for method, calls in methods.items()
    }
    edge = to_edge_transform_and_lower(
        exported, compile_config=EdgeCompileConfig(_check_ir_validity=False)
    )
    planning = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
    return edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
