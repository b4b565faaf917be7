"""The quantized products x Wᵀ and dy W beside PyTorch's float32 `mm` (MKL or OpenBLAS).

Machines are shared and their speed drifts, so the two take turns; medians over the turns and the
median of the turns' ratios are reported, with the time the hypervisor took (steal). A ratio above 1
means ours is faster, although it also unpacks the weights.
"""

import argparse
import ctypes
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from toolkit.quantization.schemes import quantize  # noqa: E402
from toolkit.runtime import operators_library  # noqa: E402

# (input features, output features): q/o, k/v, gate/up and down of Qwen2.5-0.5B.
SHAPES = [(896, 896), (896, 128), (896, 4864), (4864, 896)]


@dataclass(frozen=True)
class Result:
    """One product: medians in GFLOP/s and the median ratio ours / torch."""

    product: str
    scheme: str
    tokens: int
    depth: int
    rows: int
    ours: float
    torch: float
    ratio: float
    worst_error: float


def main() -> int:
    """Measure, print a table and JSON; return the exit code."""
    options = _options()
    library = ctypes.CDLL(str(operators_library()))
    library.toolkit_isa.restype = ctypes.c_char_p
    if options.isa and not library.toolkit_select_isa(options.isa.encode()):
        print(f"error: this processor lacks {options.isa}", file=sys.stderr)
        return 1
    library.toolkit_set_threads(options.threads)
    torch.set_num_threads(options.threads)
    steal, results = _steal(), []
    for depth, rows in SHAPES:
        for transposed in (False, True):
            results.append(_measure(library, depth, rows, transposed, options))
    report = {
        "isa": library.toolkit_isa().decode(),
        "threads": options.threads,
        "steal_seconds": _steal() - steal,
        "results": [asdict(result) for result in results],
    }
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    else:
        print(json.dumps(report, indent=2))
    _print(report)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=256, help="rows of x (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (%(default)s)")
    parser.add_argument("--scheme", default="int4", choices=["int4", "int4-symmetric", "int8"])
    parser.add_argument("--isa", help="plain, avx2, avx512 or neon (default: the best)")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    return parser.parse_args()


def _measure(
    library: ctypes.CDLL, depth: int, rows: int, transposed: bool, options: argparse.Namespace
) -> Result:
    torch.manual_seed(0)
    quantized = quantize(torch.randn(rows, depth) * depth**-0.5, options.scheme)
    weight = quantized.dequantize()
    operand = weight if transposed else weight.T
    x = torch.randn(options.tokens, operand.shape[0])
    out, expected = torch.empty(2, options.tokens, operand.shape[1])
    offset = quantized.offset.data_ptr() if quantized.offset is not None else None
    arguments = (
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_int64(options.tokens),
        ctypes.c_void_p(quantized.codes.data_ptr()),
        ctypes.c_void_p(quantized.scale.data_ptr()),
        ctypes.c_void_p(offset),
        ctypes.c_int64(rows),
        ctypes.c_int64(depth),
        quantized.bits,
        int(transposed),
        ctypes.c_void_p(out.data_ptr()),
    )
    ours, theirs = _alternate(
        lambda: library.toolkit_multiply(*arguments),
        lambda: torch.mm(x, operand, out=expected),
        options.rounds,
    )
    operations = 2e-9 * options.tokens * rows * depth
    return Result(
        product="dy W" if transposed else "x Wᵀ",
        scheme=options.scheme,
        tokens=options.tokens,
        depth=depth,
        rows=rows,
        ours=operations / statistics.median(ours),
        torch=operations / statistics.median(theirs),
        ratio=statistics.median(b / a for a, b in zip(ours, theirs, strict=True)),
        worst_error=float((out - expected).abs().max() / expected.abs().max()),
    )


def _alternate(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Time two calls in turns, a few repetitions a turn; seconds a call."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in (first, second):
        call()
    repetitions = 4
    for _ in range(rounds):
        for call, list_ in zip((first, second), times, strict=True):
            start = time.perf_counter()
            for _ in range(repetitions):
                call()
            list_.append((time.perf_counter() - start) / repetitions)
    return times


def _steal() -> float:
    """Return the seconds the hypervisor has taken from this machine so far."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


def _print(report: dict) -> None:
    print(
        f"\n{report['isa']}, {report['threads']} threads, steal {report['steal_seconds']:.1f} s",
        file=sys.stderr,
    )
    print("product      K     N  ours GF/s  torch GF/s  ratio     error", file=sys.stderr)
    for r in report["results"]:
        print(
            f"{r['product']:8}{r['depth']:6}{r['rows']:6}{r['ours']:11.1f}{r['torch']:12.1f}"
            f"{r['ratio']:7.2f}{r['worst_error']:10.1e}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
