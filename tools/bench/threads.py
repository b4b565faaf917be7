"""What a second thread brings: a whole training step with one thread and with all, taking turns."""

import statistics
import sys
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
        one, many = [], []
        for _ in range(options.rounds):
            one.append(statistics.median(_seconds(case, 1)))
            many.append(statistics.median(_seconds(case, options.threads)))
        gain = statistics.median(a / b for a, b in zip(one, many, strict=True))
        name = f"{model} seq {options.seq_len}"
        results.append({"name": name, "one": one, "many": many, "gain": gain})
        if options.threads == 2:
            bars.append(harness.Bar(f"{name}: two threads / one", gain, 1.8, 1.9, at_least=True))
    columns = ("", "one thread s", f"{options.threads} threads s", "gain")
    rows = [
        (r["name"], statistics.median(r["one"]), statistics.median(r["many"]), r["gain"])
        for r in results
    ]
    harness.print_table("threads", columns, rows)
    return harness.finish(options, machine, results, bars)


def _seconds(case: harness.Case, threads: int) -> list[float]:
    return harness.train(case, 4, threads, "--optimizer", "sgd").seconds


if __name__ == "__main__":
    sys.exit(main())
