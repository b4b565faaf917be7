"""The quantized products x Wᵀ and dy W beside PyTorch's float32 `mm` (MKL, OpenBLAS), in turns.

Ours unpack the weights, PyTorch has them in float32; a ratio above 1 means that ours is faster all
the same. The ratio of a shape is the median over the turns. `--isa avx2` holds MKL to AVX2 as well.
"""

import ctypes
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
# Idle OpenMP threads would otherwise spin while our kernels are being measured.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "avx2" in sys.argv:  # MKL reads it once, when it is loaded
    os.environ["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"

import torch

from toolkit.quantization.packing import QuantizedTensor
from toolkit.quantization.schemes import quantize
from toolkit.runtime import operators_library
from tools.bench import harness

# (input features, output features) of q/o, k/v, gate/up and down.
SHAPES = {
    "qwen2.5-0.5b": [(896, 896), (896, 128), (896, 4864), (4864, 896)],
    "qwen2.5-3b": [(2048, 2048), (2048, 256), (2048, 11008), (11008, 2048)],
    "smollm2-135m": [(576, 576), (576, 192), (576, 1536), (1536, 576)],
}
# What the bars are about: these models at these lengths; the rest shows odd shapes.
BARRED = dict.fromkeys(("qwen2.5-0.5b", "qwen2.5-3b"), (64, 256, 1024))
SECONDS = 0.6
"""Of measuring one shape, at least three turns."""
# (must, aim) by product, with AVX2 and with AVX-512.
BARS = {"x Wᵀ": {"avx2": (1.0, 1.15), "avx512": (0.9, 1.0)}}
BARS["dy W"] = {"avx2": (0.9, 1.05), "avx512": (0.85, 0.95)}


@dataclass(frozen=True)
class Result:
    """One product: medians in GFLOP/s and the median ratio ours / torch."""

    model: str
    product: str
    threads: int
    tokens: int
    depth: int
    rows: int
    ours: float
    torch: float
    ratio: float
    worst_error: float


def main() -> int:
    """Measure, print a table and JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("models", nargs="*", default=list(SHAPES), help="(default: all)")
    parser.add_argument("--tokens", type=int, nargs="*", default=[1, 64, 256, 257, 1024])
    parser.add_argument("--scheme", default="int4", choices=["int4", "int4-symmetric", "int8"])
    parser.add_argument("--isa", help="as TOOLKIT_ISA names them, say avx2 (default: the best)")
    options = parser.parse_args()
    machine = harness.Machine()
    library = ctypes.CDLL(str(operators_library()))
    library.toolkit_isa.restype = ctypes.c_char_p
    if options.isa and not library.toolkit_select_isa(options.isa.encode()):
        print(f"error: this processor lacks {options.isa}", file=sys.stderr)
        return 1
    isa, results = library.toolkit_isa().decode(), []
    for threads in range(1, options.threads + 1):
        library.toolkit_set_threads(threads)
        torch.set_num_threads(threads)
        for model in options.models:
            for depth, rows in SHAPES[model]:
                weight = quantize(torch.randn(rows, depth) * depth**-0.5, options.scheme)
                for tokens in options.tokens:
                    for product in BARS:
                        figures = _measure(library, weight, product, tokens)
                        shape = (tokens, depth, rows)
                        results.append(Result(model, product, threads, *shape, *figures))
    _print(isa, options.scheme, results)
    report = {"isa": isa, "scheme": options.scheme, "products": [asdict(r) for r in results]}
    return harness.finish(options, machine, report, _bars(isa, results))


def _measure(
    library: ctypes.CDLL, weight: QuantizedTensor, product: str, tokens: int
) -> tuple[float, ...]:
    transposed = product == "dy W"
    plain = weight.dequantize()
    operand = plain if transposed else plain.T
    rows, depth = plain.shape
    x = torch.randn(tokens, operand.shape[0])
    out, expected = torch.empty(2, tokens, operand.shape[1])
    arguments = (
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_int64(tokens),
        ctypes.c_void_p(weight.codes.data_ptr()),
        ctypes.c_void_p(weight.scale.data_ptr()),
        ctypes.c_void_p(weight.offset.data_ptr() if weight.offset is not None else None),
        ctypes.c_int64(rows),
        ctypes.c_int64(depth),
        weight.bits,
        int(transposed),
        ctypes.c_void_p(out.data_ptr()),
    )
    ours, theirs = alternate(
        lambda: library.toolkit_multiply(*arguments), lambda: torch.mm(x, operand, out=expected)
    )
    operations = 2e-9 * tokens * rows * depth
    return (
        operations / statistics.median(ours),
        operations / statistics.median(theirs),
        statistics.median(b / a for a, b in zip(ours, theirs, strict=True)),
        float((out - expected).abs().max() / expected.abs().max()),
    )


def alternate(
    first: Callable[[], object], second: Callable[[], object]
) -> tuple[list[float], list[float]]:
    """Time two calls in turns, a few repetitions a turn; seconds a call."""
    first()
    second()
    once = max(_time(first, 1), _time(second, 1))
    repetitions = max(1, round(0.01 / once))
    rounds = max(3, math.ceil(SECONDS / (2 * once * repetitions)))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, list_ in zip((first, second), times, strict=True):
            list_.append(_time(call, repetitions))
    return times


def _time(call: Callable[[], object], repetitions: int) -> float:
    started = time.perf_counter()
    for _ in range(repetitions):
        call()
    return (time.perf_counter() - started) / repetitions


def _bars(isa: str, results: list[Result]) -> list[harness.Bar]:
    """Hold the mean over a model's shapes, weighted by their operations, against the bar."""
    bars = []
    for product, limits in BARS.items():
        limit = limits.get(isa.removesuffix("vnni"))  # products of many rows are the same
        if limit is None:
            continue
        for model, threads, tokens in sorted({(r.model, r.threads, r.tokens) for r in results}):
            if model not in BARRED or tokens not in BARRED[model]:
                continue
            chosen = [
                r
                for r in results
                if (r.model, r.threads, r.tokens, r.product) == (model, threads, tokens, product)
            ]
            weights = [r.depth * r.rows for r in chosen]
            # Time of the sum of the products: operations over speed.
            ours = sum(w / (r.torch * r.ratio) for w, r in zip(weights, chosen, strict=True))
            theirs = sum(w / r.torch for w, r in zip(weights, chosen, strict=True))
            name = f"{product}, {model}, T = {tokens}, {threads} thread{'s' * (threads > 1)}"
            bars.append(harness.Bar(name, theirs / ours, *limit, at_least=True))
    return bars


def _print(isa: str, scheme: str, results: list[Result]) -> None:
    columns = ("", "threads", "T", "K", "N", "ours GF/s", "torch GF/s", "ratio", "error")
    rows = [
        (
            f"{r.product} {r.model}",
            r.threads,
            r.tokens,
            r.depth,
            r.rows,
            f"{r.ours:.0f}",
            f"{r.torch:.0f}",
            f"{r.ratio:.2f}",
            f"{r.worst_error:.0e}",
        )
        for r in results
    ]
    harness.print_table(f"{scheme} with {isa} beside float32 mm", columns, rows)


if __name__ == "__main__":
    sys.exit(main())
