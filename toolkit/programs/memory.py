"""The arrangement of `toolkit.arrange` as an algorithm of ExecuTorch's memory planning."""

from typing import Any

from toolkit.arrange import Lifetime, arrange


def plan_memory(
    alignment: int, specs: Any, graph: Any, _signature: Any, extra_padding: int = 0
) -> Any:
    """Arrange the tensors of a method, as an algorithm of ExecuTorch's memory planning."""
    from executorch.exir.memory_planning import MemoryAlgoResult, SpecAllocResult

    wanted = set(specs)
    ordered = [spec for spec in _in_graph_order(graph) if spec in wanted]
    for spec in ordered:
        spec.realign(alignment)
    lifetimes = [Lifetime(spec.allocated_memory, *spec.lifetime) for spec in ordered]
    offsets, end = arrange(lifetimes)
    placed = {
        spec: SpecAllocResult(1, index, offset)
        for index, (spec, offset) in enumerate(zip(ordered, offsets, strict=True))
    }
    if len(placed) != len(wanted):
        raise ValueError("memory is to be planned for a tensor that is not in the graph")
    return MemoryAlgoResult(placed, [0, end + extra_padding])


def planning_pass(flexible: bool) -> Any:
    """Return the pass that plans a method's memory, inputs and outputs being the caller's.

    Of a `flexible` method the shapes are the largest ones that its tensors can have: no argument of
    our operators but shapes depends on the number of tokens, so what was traced for one number
    computes any smaller one.
    """
    # Imported here because it takes seconds.
    from executorch.exir import passes
    from executorch.exir.memory_planning import MemoryPlanningAlgorithmSuite
    from executorch.exir.schema import TensorShapeDynamism

    planning: Any = passes.MemoryPlanningPass

    class FlexiblePass(planning):  # type: ignore[misc]
        def run(self, graph_module: Any, graph_signature: Any = None) -> Any:
            if flexible:
                for spec in _in_graph_order(graph_module):
                    spec.shape_dynamism = TensorShapeDynamism.DYNAMIC_BOUND
            return super().run(graph_module, graph_signature)

    suite = MemoryPlanningAlgorithmSuite([plan_memory])
    return FlexiblePass(suite, alloc_graph_input=False, alloc_graph_output=False)


def _in_graph_order(graph: Any) -> list[Any]:
    """Return every tensor's specification once; a set of them has no order of its own."""
    found: dict[int, Any] = {}
    for node in graph.graph.nodes:
        spec = node.meta.get("spec")
        for part in spec if isinstance(spec, list | tuple) else [spec]:
            if part is not None:
                found.setdefault(id(part), part)
    return list(found.values())
