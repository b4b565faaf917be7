"""Some layers a step: time and loss of LCSB, cyclic and by importance, and of the last K, exact.

LCSB (arXiv 2602.13073) has 1.35 times the speed at 1 % more loss. Its gradients are of a surrogate;
beside it stand two exact ways to do less: block-coordinate descent, whose backward pass goes
through all layers above the lowest that is chosen, and training the uppermost K layers alone. Times
are of turns beside exact gradients of all layers, losses of one longer run at the best rate of a
grid.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness
from tools.reproduce import common, learning

_RATES = (1e-4, 3e-4, 1e-3)


def ways(blocks: int) -> list[learning.Way]:
    """Return the ways to train that are compared; the first has all layers in every step."""
    some = ("--blocks", str(blocks), "--selection")
    flags = {
        "all, exact": ("--method", "exact"),
        "lcsb, cyclic": ("--method", "lcsb", *some, "cyclic"),
        "lcsb, importance": ("--method", "lcsb", *some, "importance"),
        "block-coordinate": ("--method", "block-coordinate", *some, "cyclic"),
        f"last {blocks}, exact": ("--method", "exact", "--layers", f"last:{blocks}"),
    }
    return [learning.Way(name, words, _RATES) for name, words in flags.items()]


def main(words: list[str] | None = None) -> int:
    """Measure what is not known yet, print a table, draw."""
    options = _options(words)
    results = common.Results(options.output, "selected_layers")
    found = {name: _corpus(results, options, name) for name in options.corpora}
    _draw(found, results.picture)
    return 0


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = learning.parser(__doc__)
    parser.set_defaults(corpora=["chats"])
    parser.add_argument("--blocks", type=int, default=8, help="K, layers a step (%(default)s)")
    parser.add_argument("--optimizer", default="adamw", help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="of the curves (%(default)s)")
    parser.add_argument("--every", type=int, default=50, help="steps (%(default)s)")
    parser.add_argument("--grid-steps", type=int, default=100, help="(%(default)s)")
    parser.add_argument("--rates", type=float, nargs="*", help="of the grid")
    parser.add_argument("--rounds", type=int, default=5, help="turns of times (%(default)s)")
    parser.add_argument("--turn-steps", type=int, default=4, help="of a turn (%(default)s)")
    return parser.parse_args(words)


def _corpus(results: common.Results, options: argparse.Namespace, name: str) -> dict[str, Any]:
    data = learning.corpus(options, name)
    compared = [
        learning.Way(way.name, (*way.flags, "--optimizer", options.optimizer), way.rates)
        for way in ways(options.blocks)
    ]
    grids, curves = {}, {}
    for way in (learning.with_rates(way, options.rates) for way in compared):
        grids[way.name] = learning.grid(results, options, data, way, options.grid_steps)
        rate = learning.best(grids[way.name])
        curves[way.name] = learning.curve(
            results, options, data, way, rate, options.steps, options.every
        )
    times = _times(results, options, data, compared)
    learning.print_grids(f"{name}: the grid", grids)
    whole = curves[compared[0].name]["losses"][-1]
    rows = [
        (
            way,
            f"{learning.best(grids[way]):g}",
            times[way]["seconds"],
            1 / times[way]["ratio"],
            f"{run['losses'][-1]:.4f}",
            f"{run['losses'][-1] / whole - 1:+.2%}",
        )
        for way, run in curves.items()
    ]
    columns = ("", "rate", "s/step", "times as fast", "held-out loss", "loss gap")
    harness.print_table(f"{name}: {options.blocks} layers a step", columns, rows)
    return {"curves": curves, "times": times}


def _times(
    results: common.Results,
    options: argparse.Namespace,
    data: learning.Corpus,
    compared: list[learning.Way],
) -> dict[str, dict[str, float]]:
    """Return median seconds of a step, and the median ratio of turns to the first way's."""
    case = harness.Case(data.bundle, data.train)
    turns: dict[str, list[float]] = {way.name: [] for way in compared}
    for turn in range(options.rounds):
        for way in compared if turn % 2 else compared[::-1]:
            key = f"{data.name}, {options.model}, {options.seq_len} tokens, {' '.join(way.flags)}"
            run = results.of(
                f"{key}, {options.threads} threads, {options.turn_steps} steps, turn {turn}",
                lambda way=way: common.measured(
                    case, options.turn_steps, options.threads, *way.flags
                ),
            )
            turns[way.name].append(run["seconds"])
    whole = turns[compared[0].name]
    return {
        name: {
            "seconds": statistics.median(seconds),
            "ratio": statistics.median(a / b for a, b in zip(seconds, whole, strict=True)),
        }
        for name, seconds in turns.items()
    }


def _draw(found: dict[str, Any], path: Path) -> None:
    figure, axes = common.axes(len(found), 2, (12, 4.2 * len(found)))
    for (by_step, by_time), (name, parts) in zip(axes, found.items(), strict=True):
        for way, run in parts["curves"].items():
            by_step.plot(run["steps"], run["losses"], label=way)
            seconds = [step * parts["times"][way]["seconds"] for step in run["steps"]]
            by_time.plot(seconds, run["losses"], label=way)
        by_step.set(xlabel="steps", ylabel=f"held-out loss, {name}")
        by_time.set(xlabel="seconds, at the turns' median of a step")
        for axis in (by_step, by_time):
            axis.grid(alpha=0.3)
        by_step.legend(fontsize=8)
    common.save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
