"""What a second thread brings: a whole training step with one thread and with all, taking turns.

Beside it what the machine allows: as many trainers of one thread each, at the same time, which wait
for nobody. Where cores share caches, memory or a clock, that is less than their number.

Gains are given twice: of the fastest steps, and of the medians. What else runs on a machine only
ever adds time, and to a step of several threads when it meets any of them: on a shared machine, the
medians tell of its neighbours. The bar is for the fastest steps.
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
            one += _seconds(case, 1)
            many += _seconds(case, options.threads)
            apart += _apart(case, options.threads)
        gain = min(one) / min(many)
        median_gain = statistics.median(one) / statistics.median(many)
        ceiling = options.threads * min(one) / min(apart)
        name = f"{model} seq {options.seq_len}"
        results.append(
            {"name": name, "one": one, "many": many, "apart": apart}
            | {"gain": gain, "median_gain": median_gain, "ceiling": ceiling}
        )
        if options.threads == 2:
            bars.append(harness.Bar(f"{name}: two threads / one", gain, 1.8, 1.9, at_least=True))
    trainers = f"{options.threads} trainers"
    columns = ("", "one thread s", f"{options.threads} threads s", "gain", "of medians", trainers)
    rows = [
        (
            r["name"],
            min(r["one"]),
            min(r["many"]),
            r["gain"],
            r["median_gain"],
            r["ceiling"],
        )
        for r in results
    ]
    harness.print_table("threads", columns, rows)
    return harness.finish(options, machine, results, bars)


def _seconds(case: harness.Case, threads: int) -> list[float]:
    return harness.train(case, 4, threads, "--optimizer", "sgd").seconds


def _apart(case: harness.Case, count: int) -> list[float]:
    """Return the mean seconds of steps of `count` trainers that run at the same time."""
    with ThreadPoolExecutor(count) as pool:
        runs = pool.map(lambda _: _seconds(case, 1), range(count))
        return [statistics.mean(steps) for steps in zip(*runs, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
