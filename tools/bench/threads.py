"""What a second thread brings: a whole training step with one thread and with all, taking turns.

Beside it what the machine allows: as many trainers of one thread each, at the same time, which wait
for nobody. Where cores share caches, memory or a clock, that is less than their number.
"""

import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness


def main() -> int:
    """Measure, print a table, write JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("models", nargs="*", default=["smollm2-135m", "qwen2.5-0.5b"])
    parser.add_argument("--seq-len", type=int, default=256, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (%(default)s)")
    options = parser.parse_args()
    machine, results, bars = harness.Machine(), [], []
    for model in options.models:
        case = harness.case(model, options.seq_len)
        one, many, apart = [], [], []
        for _ in range(options.rounds):
            one.append(statistics.median(_seconds(case, 1)))
            many.append(statistics.median(_seconds(case, options.threads)))
            apart.append(_apart(case, options.threads))
        gain = statistics.median(a / b for a, b in zip(one, many, strict=True))
        ceiling = statistics.median(
            options.threads * a / b for a, b in zip(one, apart, strict=True)
        )
        name = f"{model} seq {options.seq_len}"
        results.append(
            {"name": name, "one": one, "many": many, "apart": apart}
            | {"gain": gain, "ceiling": ceiling}
        )
        if options.threads == 2:
            bars.append(harness.Bar(f"{name}: two threads / one", gain, 1.8, 1.9, at_least=True))
    trainers = f"{options.threads} trainers"
    columns = ("", "one thread s", f"{options.threads} threads s", "gain", trainers, "gain")
    rows = [
        (
            r["name"],
            statistics.median(r["one"]),
            statistics.median(r["many"]),
            r["gain"],
            statistics.median(r["apart"]),
            r["ceiling"],
        )
        for r in results
    ]
    harness.print_table("threads", columns, rows)
    return harness.finish(options, machine, results, bars)


def _seconds(case: harness.Case, threads: int) -> list[float]:
    return harness.train(case, 4, threads, "--optimizer", "sgd").seconds


def _apart(case: harness.Case, count: int) -> float:
    """Return the seconds of a step of one of `count` trainers that run at the same time."""
    with ThreadPoolExecutor(count) as pool:
        runs = pool.map(lambda _: statistics.median(_seconds(case, 1)), range(count))
        return statistics.mean(runs)


if __name__ == "__main__":
    sys.exit(main())
