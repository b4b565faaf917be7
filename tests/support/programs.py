"""Single operators as ExecuTorch programs."""

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


class _Call(nn.Module):
    """Calls an operator with its tensors as inputs and everything else as constants."""

    def __init__(self, name: str, args: list) -> None:
        super().__init__()
        self.operator = OPERATORS[name]
        self.args = [None if isinstance(a, Tensor) else a for a in args]
        self.is_tensor = [isinstance(a, Tensor) for a in args]

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        remaining = iter(tensors)
        return self.operator(
            *(
                next(remaining) if is_tensor else constant
                for is_tensor, constant in zip(self.is_tensor, self.args, strict=True)
            )
        )


def tensors_of(args: list) -> tuple[Tensor, ...]:
    """Return the inputs of a program made by `export_operator`."""
    return tuple(a for a in args if isinstance(a, Tensor))


def export_operators(calls: dict[str, tuple[str, list]]) -> ExecutorchProgramManager:
    """Lower operator calls to one program.

    Args:
        calls: Method name -> (operator without namespace, arguments in schema order). Inputs and
            outputs of the methods are the caller's; `.buffer` of the result is the .pte.
    """
    exported = {
        method: torch.export.export(_Call(name, args), tensors_of(args), strict=False)
        for method, (name, args) in calls.items()
    }
    edge = to_edge_transform_and_lower(
        exported, compile_config=EdgeCompileConfig(_check_ir_validity=False)
    )
    planning = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
    return edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
