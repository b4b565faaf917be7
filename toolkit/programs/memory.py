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


def _in_graph_order(graph: Any) -> list[Any]:
    """Return every tensor's specification once; a set of them has no order of its own."""
    found: dict[int, Any] = {}
    for node in graph.graph.nodes:
        spec = node.meta.get("spec")
        for part in spec if isinstance(spec, list | tuple) else [spec]:
            if part is not None:
                found.setdefault(id(part), part)
    return list(found.values())
