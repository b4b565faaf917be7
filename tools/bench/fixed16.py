"""The quantized products x Wᵀ and dy W in fixed16 beside the same in float32, in turns.

A ratio above 1 means that fixed16 is faster; that of a model and a length is the time of all its
layers' products together. The error is the norm of the difference from float64 over its norm.
`--isa` holds both to an instruction set.
"""

import ctypes
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from toolkit.quantization.packing import QuantizedTensor
from toolkit.quantization.schemes import quantize
from toolkit.runtime import operators_library
from tools.bench import harness
from tools.bench.gemm import SHAPES, alternate

PRODUCTS = ("x Wᵀ", "dy W")
MODELS = ("qwen2.5-0.5b", "qwen2.5-3b")
# (must, aim) by product and instruction set.
BARS = {
    "x Wᵀ": {"avx512vnni": (1.5, 1.65), "avx2": (1.15, 1.35)},
    "dy W": {"avx512vnni": (1.25, 1.4), "avx2": (1.05, 1.2)},
}


@dataclass(frozen=True)
class Result:
    """One product: medians in GFLOP/s, relative error of fixed16 and of float32."""

    model: str
    product: str
    tokens: int
    depth: int
    rows: int
    float32: float
    fixed16: float
    error: float
    float32_error: float

    @property
    def operations(self) -> float:
        """In units of 10^9."""
        return 2e-9 * self.tokens * self.depth * self.rows


def main() -> int:
    """Measure, print a table and JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS), help="(default: two)")
    parser.add_argument("--tokens", type=int, nargs="*", default=[64, 256, 1024])
    parser.add_argument("--scheme", default="int4", choices=["int4", "int4-symmetric", "int8"])
    parser.add_argument("--isa", help="one of toolkit.choices.ISAS (default: the best)")
    options = parser.parse_args()
    machine = harness.Machine()
    library = ctypes.CDLL(str(operators_library()))
    library.toolkit_isa.restype = ctypes.c_char_p
    if options.isa and not library.toolkit_select_isa(options.isa.encode()):
        print(f"error: this processor lacks {options.isa}", file=sys.stderr)
        return 1
    library.toolkit_select_arithmetic(b"fixed16")  # names the set that it has code for
    isa, results = library.toolkit_isa().decode(), []
    library.toolkit_set_threads(options.threads)
    for model in options.models:
        for depth, rows in SHAPES[model]:
            weight = quantize(torch.randn(rows, depth) * depth**-0.5, options.scheme)
            for tokens in options.tokens:
                for product in PRODUCTS:
                    figures = _measure(library, weight, product, tokens)
                    results.append(Result(model, product, tokens, depth, rows, *figures))
    _print(isa, options, results)
    report = {"isa": isa, "scheme": options.scheme, "products": [asdict(r) for r in results]}
    return harness.finish(options, machine, report, _bars(isa, results))


def _measure(
    library: ctypes.CDLL, weight: QuantizedTensor, product: str, tokens: int
) -> tuple[float, ...]:
    transposed = product == "dy W"
    dense = weight.dequantize(torch.float64)
    operand = dense if transposed else dense.T
    rows, depth = dense.shape
    x = torch.randn(tokens, operand.shape[0])
    outs = {name: torch.empty(tokens, operand.shape[1]) for name in (b"float32", b"fixed16")}
    parameters = [None if t is None else t.data_ptr() for t in (weight.scale, weight.offset)]

    def call(arithmetic: bytes) -> None:
        library.toolkit_select_arithmetic(arithmetic)
        library.toolkit_multiply(
            ctypes.c_void_p(x.data_ptr()),
            ctypes.c_int64(tokens),
            ctypes.c_void_p(weight.codes.data_ptr()),
            *map(ctypes.c_void_p, parameters),
            *(ctypes.c_int64(rows), ctypes.c_int64(depth), weight.bits, int(transposed)),
            ctypes.c_void_p(outs[arithmetic].data_ptr()),
        )

    times = alternate(lambda: call(b"float32"), lambda: call(b"fixed16"))
    operations = 2e-9 * tokens * rows * depth
    exact = x.double() @ operand
    errors = [float((out - exact).norm() / exact.norm()) for out in outs.values()]
    return (*(operations / statistics.median(t) for t in times), errors[1], errors[0])


def _bars(isa: str, results: list[Result]) -> list[harness.Bar]:
    """Hold the time of a model's products together against the bar."""
    bars = []
    for product in PRODUCTS:
        limits = BARS[product].get(isa)
        for model, tokens in dict.fromkeys((r.model, r.tokens) for r in results):
            key = (model, tokens, product)
            chosen = [r for r in results if (r.model, r.tokens, r.product) == key]
            usual = sum(r.operations / r.float32 for r in chosen)
            ratio = usual / sum(r.operations / r.fixed16 for r in chosen)
            if limits is not None and model in MODELS:
                name = f"{product}, {model}, T = {tokens}, fixed16 / float32"
                bars.append(harness.Bar(name, ratio, *limits, at_least=True))
    return bars


def _print(isa: str, options: Any, results: list[Result]) -> None:
    columns = ("", "T", "K", "N", "float32 GF/s", "fixed16 GF/s", "ratio", "error", "of float32")
    rows = [
        (
            f"{r.product} {r.model}",
            *(r.tokens, r.depth, r.rows, f"{r.float32:.0f}", f"{r.fixed16:.0f}"),
            *(f"{r.fixed16 / r.float32:.2f}", f"{r.error:.0e}", f"{r.float32_error:.0e}"),
        )
        for r in results
    ]
    title = f"{options.scheme} with {isa}, {options.threads} threads"
    harness.print_table(title, columns, rows)


if __name__ == "__main__":
    sys.exit(main())
