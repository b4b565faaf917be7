"""Peak against sequence length, and equal losses: MeSP (arXiv 2602.13069), here to 4,096 tokens.

The lowering mesp computes in the backward pass what it needs once more, h = x Aᵀ too; store-h keeps
h of attention's projections; mebp has autodiff store what it needs. Gradients are the same, so the
losses have to be: those of a model with real weights, on rows that it sees again and again. Storing
and recomputing h, on a larger model, take turns (the paper's table 5).
"""

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness
from tools.reproduce import common

LOWERINGS = ("mesp", "mebp")
KEPT = ("mesp", "store-h")
LENGTHS = [128, 256, 512, 1024, 2048, 4096]


def main(words: list[str] | None = None) -> int:
    """Measure what is not known yet, print a table, draw; 1 if the losses differ."""
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="qwen2.5-0.5b", help="(%(default)s)")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="of each length (%(default)s)")
    parser.add_argument("--long", type=int, default=1000, help="steps of the losses (%(default)s)")
    parser.add_argument("--learns", default=harness.REAL_WEIGHTS, help="model (%(default)s)")
    parser.add_argument("--larger", default="qwen2.5-3b", help="of the turns (%(default)s)")
    parser.add_argument("--seq-len", type=int, default=256, help="of the turns (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns (%(default)s)")
    options = parser.parse_args(words)
    results = common.Results(options.output, "memory_and_length")
    points = {
        name: [_point(results, options, name, length, options.steps) for length in options.lengths]
        for name in LOWERINGS
    }
    shortest = min(options.lengths)
    losses = [
        _point(results, options, n, shortest, options.long, model=options.learns)["losses"]
        for n in LOWERINGS
    ]
    worst = max(abs(a - b) / b for a, b in zip(*losses, strict=True))
    columns = ("tokens", *(f"{name} {what}" for name in LOWERINGS for what in ("MB", "s")))
    rows = [
        (
            length,
            *(points[n][i][key] for n in LOWERINGS for key in ("peak_mb", "seconds")),
        )
        for i, length in enumerate(options.lengths)
    ]
    harness.print_table(f"{options.model}: peak against length", columns, rows)
    harness.print_table(
        f"{options.larger}, {options.seq_len} tokens: h computed again, and stored",
        ("", "MB", "s"),
        _turns(results, options),
    )
    print(
        f"losses of {options.long} steps of {options.learns} differ by {worst:.1e}, relative",
        file=sys.stderr,
    )
    _draw(options.lengths, points, losses, results.picture)
    return int(worst > 1e-3)


def _turns(results: common.Results, options: Any) -> list[tuple[object, ...]]:
    """Return name, median peak and seconds of what keeps h and what does not."""
    runs: dict[str, list[Any]] = {name: [] for name in KEPT}
    for turn in range(options.rounds):
        for name in KEPT if turn % 2 else KEPT[::-1]:
            runs[name].append(
                _point(
                    results, options, name, options.seq_len, options.steps,
                    model=options.larger, turn=f", turn {turn}",
                )
            )  # fmt: skip
    keys = ("peak_mb", "seconds")
    return [(n, *(statistics.median(run[k] for run in runs[n]) for k in keys)) for n in KEPT]


def _point(
    results: common.Results,
    options: Any,
    lowering: str,
    length: int,
    steps: int,
    *,
    model: str = "",
    turn: str = "",
) -> Any:
    model = model or options.model
    return results.of(
        f"{model} {lowering} {length} tokens, {steps} steps, {options.threads} threads{turn}",
        lambda: common.measured(
            harness.case(model, length, lowering),
            steps, options.threads, "--optimizer", "sgd", "--trace", "steps",
        ),
    )  # fmt: skip


def _draw(lengths: list[int], points: Any, losses: Any, path: Path) -> None:
    figure, axes = common.axes(1, 2, (11, 4))
    peak, loss = axes[0]
    for name, values in zip(LOWERINGS, losses, strict=True):
        peak.plot(lengths, [point["peak_mb"] for point in points[name]], "o-", label=name)
        loss.plot(range(1, len(values) + 1), values, label=name, alpha=0.7)
    peak.set(xlabel="tokens", ylabel="peak, MB", ylim=(0, None))
    loss.set(xlabel="step", ylabel="loss")
    for axis in (peak, loss):
        axis.legend()
        axis.grid(alpha=0.3)
    common.save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
