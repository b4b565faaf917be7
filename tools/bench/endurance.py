"""What tracing costs, how soon the first step begins, whether memory creeps over 1,000 steps."""

import math
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness


def main() -> int:
    """Measure, print tables, write JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("--steps", type=int, default=1000, help="of the long run (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of tracing (%(default)s)")
    parser.add_argument(
        "parts", nargs="*", default=["tracing", "start", "drift"], help="(default: all three)"
    )
    options = parser.parse_args()
    machine, bars, results = harness.Machine(), [], {}
    for part in options.parts:
        results[part] = {"tracing": _tracing, "start": _start, "drift": _drift}[part](options)
    if "tracing" in results:
        bars.append(harness.Bar("tracing: % of a step", results["tracing"]["percent"], 1.0, 0.3))
    if "start" in results:
        bars.append(harness.Bar("start to first step: s", _median(results["start"]), 0.5, 0.2))
    if "drift" in results:
        bars.append(harness.Bar("memory drift: MB", results["drift"]["drift_mb"], 1.0, 0.0))
    return harness.finish(options, machine, results, bars)


def _tracing(options: Any) -> dict[str, Any]:
    """Compare steps at full detail with steps that trace nothing but the step records."""
    case = harness.case("smollm2-135m", 256)
    shares, full, bare = [], [], []
    fastest = {"full": math.inf, "steps": math.inf}
    for turn in range(options.rounds):
        order = ("full", "steps") if turn % 2 else ("steps", "full")
        times = {}
        for level in order:
            seconds = harness.train(
                case, 5, options.threads, "--optimizer", "sgd", "--trace", level
            ).seconds
            times[level] = statistics.median(seconds)
            fastest[level] = min(fastest[level], *seconds)
        full.append(times["full"])
        bare.append(times["steps"])
        shares.append(times["full"] / times["steps"] - 1)
    # Other load only adds, and by more than tracing does: the fastest steps tell them apart.
    cost = fastest["full"] / fastest["steps"] - 1
    harness.print_table(
        "tracing at full detail (SmolLM2-135M, seq 256)",
        ("", "full s", "steps only s", "cost %"),
        [
            ("median", statistics.median(full), statistics.median(bare), 100 * _median(shares)),
            ("fastest", *fastest.values(), 100 * cost),
        ],
    )
    return {"percent": 100 * cost, "median_percent": 100 * _median(shares), "shares": shares}


def _start(options: Any) -> list[float]:
    """Return seconds from the process's start to its first step, page cache warm."""
    case = harness.case("qwen2.5-0.5b", 256)
    result = []
    for _ in range(5):
        run = harness.train(case, 1, options.threads, "--optimizer", "sgd")
        begin = next(r["t"] for r in run.of("begin") if r["phase"] == "step")
        # Everything before the first step and after the last record counts as start.
        result.append(run.wall - (run.of("end")[0]["t"] - begin) / 1e9)
    return result


def _drift(options: Any) -> dict[str, Any]:
    """Return the highest peak of the last hundred steps minus that of the first hundred."""
    case = harness.case("smollm2-135m", 64)
    run = harness.train(case, options.steps, options.threads, "--optimizer", "adamw")
    peaks = [step["peak"] * 1024 / 1e6 for step in run.of("step")]
    first, last = max(peaks[:100]), max(peaks[-100:])
    harness.print_table(
        f"{options.steps} steps of SmolLM2-135M, seq 64, AdamW",
        ("", "steps 1-100", "last 100", "drift"),
        [("peak MB", f"{first:.2f}", f"{last:.2f}", f"{last - first:.2f}")],
    )
    return {"first_mb": first, "last_mb": last, "drift_mb": last - first}


def _median(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    sys.exit(main())
