"""Trace the programs of a model to lists of operators, from shapes alone.

The functions are those that an export lowers (`toolkit.programs`), run once with tensors that have
no content, so a new model family or lowering is planned as it is exported. One trace of all five
takes about a quarter of a second, importing what it takes some seconds: `cache.py` keeps results.
"""

import operator
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from toolkit.planning.graph import Operation, Program, Value
from toolkit.planning.settings import Settings
from toolkit.programs import program_functions
from toolkit.programs.block import Function
from toolkit.programs.kinds import program_kinds
from toolkit.programs.lower import DECOMPOSITIONS, simplify


def trace_programs(config: Any, settings: Settings) -> dict[str, Program]:
    """Return the programs of `settings.seq_len` by name, without the length in it.

    Raises:
        ToolkitError: A family, feature, target or lowering that is not supported.
    """
    functions = program_functions(
        config,
        seq_len=settings.seq_len,
        lora=settings.lora,
        lowering=settings.lowering,
        schemes=settings.schemes,
    )
    return {function.name: _trace(function) for function in functions}


def block_layers(config: Any, settings: Settings) -> dict[str, tuple[int, ...]]:
    """Return the layers of every kind of block that the programs are for."""
    kinds = program_kinds(config, settings.lora)
    return {kind.block.name: kind.block.layers for kind in kinds}


def _trace(function: Function) -> Program:
    with FakeTensorMode():
        examples = tuple(binding.example() for binding in function.inputs)
        graph = make_fx(function.call, decomposition_table=DECOMPOSITIONS)(*examples)
    simplify(graph)
    return _Reader(function, graph).program()


class _Reader:
    """Turns a traced graph into values and operations."""

    def __init__(self, function: Function, graph: GraphModule) -> None:
        self.function = function
        self.nodes = list(graph.graph.nodes)
        self.values: dict[Node, Value | tuple[Value, ...]] = {}
        returned = next(node for node in self.nodes if node.op == "output").args[0]
        self.returned = set(returned if isinstance(returned, list | tuple) else [returned])

    def program(self) -> Program:
        operations = []
        inputs = [self._input(node, i) for i, node in enumerate(self._placeholders())]
        for node in self.nodes:
            if node.op != "call_function":
                continue
            if _is_item(node):
                tensors, index = cast(tuple[Node, int], node.args)
                self.values[node] = cast(tuple[Value, ...], self.values[tensors])[index]
                continue
            results = self._results(node)
            self.values[node] = (
                results[0] if isinstance(node.meta["val"], torch.Tensor) else results
            )
            name = str(node.target).removeprefix("toolkit.").removesuffix(".default")
            arguments = tuple(self._argument(argument) for argument in node.args)
            operations.append(Operation(name, arguments, results))
        return Program(
            self.function.name,
            tuple(operations),
            tuple(value for value in inputs if value.role == "base"),
            tuple(value for value in inputs if value.role == "adapter"),
        )

    def _placeholders(self) -> Iterator[Node]:
        return (node for node in self.nodes if node.op == "placeholder")

    def _input(self, node: Node, index: int) -> Value:
        binding = self.function.inputs[index]
        role, found, name = binding.name.partition(":")
        value = Value(
            name if found else binding.name,
            role if found else "input",
            tuple(binding.shape),
            _dtype_name(binding.dtype),
        )
        self.values[node] = value
        return value

    def _results(self, node: Node) -> tuple[Value, ...]:
        content = node.meta["val"]
        tensors = [content] if isinstance(content, torch.Tensor) else list(content)
        leaving = {node: 0} if isinstance(content, torch.Tensor) else {}
        leaving |= {user: cast(int, user.args[1]) for user in node.users if _is_item(user)}
        kept = {index for user, index in leaving.items() if user in self.returned}
        return tuple(
            Value(
                f"{node.name}.{i}",
                "output" if i in kept else "result",
                tuple(tensor.shape),
                _dtype_name(tensor.dtype),
            )
            for i, tensor in enumerate(tensors)
        )

    def _argument(self, argument: Any) -> Any:
        return self.values[argument] if isinstance(argument, Node) else argument


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_item(node: Node) -> bool:
    return node.target is operator.getitem
