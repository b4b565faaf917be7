"""The work of every operator: products, attention, weights unpacked, bytes moved.

Counted as the kernels do it (runtime/kernels/): a weight is unpacked once for every product it
takes part in, attention looks at half of T x T, the MLP's backward makes five products of T x D x F
in one sweep.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any

from toolkit.planning.graph import Operation, Value

Arguments = tuple[Any, ...]
Rule = Callable[[Arguments], "Work"]


@dataclass(frozen=True)
class Work:
    """Work of one or more operators.

    Attributes:
        products: Floating-point operations of matrix products, a multiply-add counts two.
        attention: The same of attention.
        unpacked: Weights turned from codes to floats.
        moved: Bytes of activations read and written.
    """

    products: float = 0.0
    attention: float = 0.0
    unpacked: float = 0.0
    moved: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def times(self, factor: float) -> "Work":
        """Return the work of `factor` repetitions."""
        return Work(*(factor * value for value in astuple(self)))

    @property
    def operations(self) -> float:
        """Floating-point operations."""
        return self.products + self.attention


def work_of(operations: Iterable[Operation]) -> Work:
    """Return the sum of the work of operators."""
    return sum((work for _, work in works_of(operations)), Work())


def works_of(operations: Iterable[Operation]) -> Iterator[tuple[Operation, Work]]:
    """Yield the operators of a program with their work, which a window makes less."""
    operations = list(operations)
    windows = {o.results[0]: o.arguments[1] for o in operations if o.name == "window_start"}
    for operation in operations:
        yield operation, _work(operation, windows)


def weight_elements(codes: Value) -> int:
    """Return N K of a weight from its packed codes, uint8 [N/16, K, 8] or int8 [N/16, K, 16]."""
    return codes.shape[0] * 16 * codes.shape[1]


def _work(operation: Operation, windows: dict[Value, int]) -> Work:
    tensors = [a for a in operation.arguments if isinstance(a, Value) and a.role != "base"]
    moved = sum(tensor.bytes for tensor in (*tensors, *operation.results))
    rule = _RULES.get(operation.name)
    work = Work(moved=moved) + (rule(operation.arguments) if rule else Work())
    for start in tensors:
        if start in windows:
            share = _seen(start.elements, windows[start]) / _seen(start.elements, start.elements)
            work = replace(work, attention=work.attention * share)
    return work


def _seen(tokens: int, window: int) -> float:
    """Return the pairs of a query and a key that it sees."""
    return tokens * window - window * (window - 1) / 2


def _linear(codes_at: int, a_at: int | None, low_rank: int) -> Rule:
    """Return the rule of a linear layer; `low_rank` counts its products of T x K x R or T x N x R
    as halves of (K + N)."""

    def rule(arguments: Arguments) -> Work:
        tokens = arguments[0].shape[-2]
        weights = weight_elements(arguments[codes_at])
        n, k = arguments[codes_at].shape[0] * 16, arguments[codes_at].shape[1]
        rank = arguments[a_at].shape[0] if a_at is not None else 0
        return Work(2 * tokens * (weights + low_rank * rank * (n + k)), unpacked=weights)

    return rule


def _mlp(first: int, products: int, low_rank: int) -> Rule:
    def rule(arguments: Arguments) -> Work:
        tokens = arguments[0].shape[-2]
        weights = weight_elements(arguments[first])
        adapters = arguments[first + 9 : first + 15]
        small = sum(adapter.elements for adapter in adapters if adapter is not None)
        return Work(
            2 * tokens * (products * weights + low_rank * small), unpacked=products * weights
        )

    return rule


def _fused_mlp(first: int, products: int, low_rank: int) -> Rule:
    def rule(arguments: Arguments) -> Work:
        tokens = arguments[0].shape[-2]
        weights = weight_elements(arguments[first]) / 2
        adapters = arguments[first + 6 : first + 10]
        small = sum(adapter.elements for adapter in adapters if adapter is not None)
        return Work(
            2 * tokens * (products * weights + low_rank * small), unpacked=products * weights
        )

    return rule


def _attention(q_at: int, products: int) -> Rule:
    def rule(arguments: Arguments) -> Work:
        tokens, width = arguments[q_at].shape[-2:]
        return Work(attention=products * tokens * tokens * width)

    return rule


def _head(products: int) -> Rule:
    def rule(arguments: Arguments) -> Work:
        weights = weight_elements(arguments[2])
        tokens = arguments[0].shape[-2]
        return Work(2 * tokens * products * weights, unpacked=products * weights)

    return rule


_RULES: dict[str, Rule] = {
    "quantized_linear": _linear(1, None, 0),
    "quantized_linear_backward": _linear(1, None, 0),
    "lora_linear": _linear(1, 5, 1),
    "lora_linear_saved": _linear(1, 5, 1),
    "lora_linear_backward": _linear(2, 5, 3),
    "lora_linear_saved_backward": _linear(3, 6, 2),
    "swiglu_mlp": _mlp(1, 3, 1),
    "swiglu_mlp_backward": _mlp(2, 5, 3),
    "geglu_mlp": _mlp(1, 3, 1),
    "geglu_mlp_backward": _mlp(2, 5, 3),
    "fused_swiglu_mlp": _fused_mlp(1, 3, 1),
    "fused_swiglu_mlp_backward": _fused_mlp(2, 5, 3),
    "attention": _attention(0, 2),
    "attention_saved": _attention(0, 2),
    "attention_backward": _attention(1, 5),
    "attention_saved_backward": _attention(1, 4),
    "linear_cross_entropy": _head(2),
    "linear_cross_entropy_loss": _head(1),
}
