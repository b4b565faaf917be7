"""Where the floating-point operations of a step go, and how close each operator is to the machine.

Operations and bytes are counted from the programs' shapes (toolkit/planning/cost.py), seconds are
the engine's own by operator (trace at full detail), the ceiling is this machine's measured float32
matrix product (torch.mm of 2048 x 2048 matrices, as many threads). Bytes are packed weights and
activations, read or written once.
"""

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness


def main() -> int:
    """Measure, print a table, write JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("model", nargs="?", default="qwen2.5-0.5b", help="(%(default)s)")
    parser.add_argument("--seq-len", type=int, default=256, help="(%(default)s)")
    parser.add_argument("--lowering", default="mesp", choices=["mesp", "mebp"])
    parser.add_argument("--steps", type=int, default=4, help="(%(default)s)")
    options = parser.parse_args()
    machine = harness.Machine()
    case = harness.case(options.model, options.seq_len, options.lowering)
    work = _work(case, options.seq_len)
    before = _sgemm(options.threads)
    run = harness.train(case, options.steps + 1, options.threads, "--optimizer", "sgd")
    ceiling = max(before, _sgemm(options.threads))
    rows = list(_rows(run, work, ceiling))
    step = statistics.mean(run.seconds)
    total = sum(row["operations"] for row in rows)
    results = {
        "sgemm_gflops": ceiling / 1e9,
        "step_seconds": step,
        "step_gflops": total / step / 1e9,
        "utilization": total / step / ceiling,
        "operators": rows,
    }
    _print(f"{options.model} seq {options.seq_len} {options.lowering}", results)
    return harness.finish(options, machine, results)


def _sgemm(threads: int) -> float:
    """Return operations a second of a large float32 product."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(2, 2048, 2048)
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best


def _work(case: harness.Case, seq_len: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Return operations and bytes of a step by (phase, operator)."""
    from toolkit.planning.cost import works_of
    from toolkit.planning.graph import Value

    traced = _traced(case, seq_len)
    result: dict[tuple[str, str], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for phase, name, times in traced.methods():
        for operation, work in works_of(traced.programs[name].operations):
            tensors = [a for a in operation.arguments if isinstance(a, Value) and a.role == "base"]
            if operation.name == "quantized_embedding":
                tensors = []  # a few rows of it
            moved = work.moved + sum(tensor.bytes for tensor in tensors)
            old = result[phase, operation.name]
            result[phase, operation.name] = (
                old[0] + times * work.operations,
                old[1] + times * moved,
            )
    return result


def _traced(case: harness.Case, seq_len: int) -> Any:
    from dataclasses import replace

    from toolkit.planning.model import open_model
    from toolkit.planning.predict import Planner

    model = open_model(str(case.bundle))
    return Planner(model).traced(replace(model.settings, seq_len=seq_len))


def _rows(run: harness.Run, work: dict, ceiling: float) -> Iterator[dict[str, Any]]:
    steps = len(run.seconds)
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for phase in run.of("phase"):
        if phase["step"] and phase["step"] > 1:
            for name, time_ in phase["operators"].items():
                spent[phase["phase"], name] += time_["ns"] / 1e9 / steps
    for (phase, name), seconds in sorted(spent.items(), key=lambda item: -item[1]):
        operations, moved = work.get((phase, name), (0.0, 0.0))
        yield {
            "phase": phase,
            "operator": name,
            "seconds": seconds,
            "operations": operations,
            "bytes": moved,
            "gflops": operations / seconds / 1e9,
            "gbytes_per_second": moved / seconds / 1e9,
            "share_of_sgemm": operations / seconds / ceiling,
        }


def _print(name: str, results: dict[str, Any]) -> None:
    step = results["step_seconds"]
    columns = (
        "phase and operator",
        "ms/step",
        "% of step",
        "GFLOP",
        "MB",
        "GFLOP/s",
        "GB/s",
        "of sgemm",
    )
    rows = [
        (
            f"{r['phase']:8} {r['operator']}",
            f"{1e3 * r['seconds']:.1f}",
            f"{r['seconds'] / step:.1%}",
            f"{r['operations'] / 1e9:.2f}",
            f"{r['bytes'] / 1e6:.0f}",
            f"{r['gflops']:.1f}",
            f"{r['gbytes_per_second']:.1f}",
            f"{r['share_of_sgemm']:.0%}",
        )
        for r in results["operators"]
    ]
    spent = sum(r["seconds"] for r in results["operators"])
    rows.append(
        ("outside operators", f"{1e3 * (step - spent):.1f}", f"{1 - spent / step:.1%}", *"     ")
    )
    harness.print_table(f"{name}: {step:.2f} s a step", columns, rows)
    print(
        f"\nsgemm {results['sgemm_gflops']:.0f} GFLOP/s; whole step "
        f"{results['step_gflops']:.0f} GFLOP/s, {results['utilization']:.0%} of it",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
