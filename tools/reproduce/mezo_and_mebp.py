"""Peak and time of a step of MeZO, MeBP and MeSP: table 1 of MeBP (arXiv 2510.03425).

MeBP takes 43 to 94 % more time than MeZO there. Here all three are ours, on the same engine: mezo,
and exact gradients with the lowering mebp and with mesp, SGD all three. They take turns; medians
are reported. Weights are random where no real ones are at hand: time and peak do not depend on
them.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness
from tools.reproduce import common

MODELS = ["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "gemma3-1b", "gemma3-4b"]
METHODS = {
    "mezo": ("mesp", ("--method", "mezo")),
    "mebp": ("mebp", ("--optimizer", "sgd")),
    "mesp": ("mesp", ("--optimizer", "sgd")),
}


def main(words: list[str] | None = None) -> int:
    """Measure what is not known yet, print the table, draw it."""
    parser = common.parser(__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, help="(%(default)s)")
    parser.add_argument("--seq-len", type=int, default=256, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="of a turn (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    options = parser.parse_args(words)
    results = common.Results(options.output, "mezo_and_mebp")
    table = {}
    for model in options.models:
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in METHODS}
        for turn in range(options.rounds):
            for name in METHODS:
                turns[name].append(_turn(results, options, model, name, turn))
        table[model] = {name: _median(runs) for name, runs in turns.items()}
    _print(table)
    _draw(table, results.picture)
    return 0


def _turn(results: common.Results, options: Any, model: str, name: str, turn: int) -> Any:
    lowering, flags = METHODS[name]
    return results.of(
        f"{model} {options.seq_len} {name} {options.threads} threads, turn {turn}",
        lambda: common.measured(
            harness.case(model, options.seq_len, lowering), options.steps, options.threads, *flags
        ),
    )


def _median(runs: list[dict[str, Any]]) -> dict[str, float]:
    middle = len(runs) // 2
    return {key: sorted(run[key] for run in runs)[middle] for key in ("peak_mb", "seconds")}


def _print(table: dict[str, dict[str, dict[str, float]]]) -> None:
    columns = ("", *(f"{name} {what}" for name in METHODS for what in ("MB", "s")), "mebp / mezo")
    rows = [
        (
            model,
            *(row[name][key] for name in METHODS for key in ("peak_mb", "seconds")),
            row["mebp"]["seconds"] / row["mezo"]["seconds"],
        )
        for model, row in table.items()
    ]
    harness.print_table("peak and time of a step", columns, rows)


def _draw(table: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    figure, axes = common.axes(1, 2, (11, 4))
    for axis, key, label in zip(
        axes[0], ("peak_mb", "seconds"), ("peak, MB", "seconds a step"), strict=True
    ):
        for i, name in enumerate(METHODS):
            places = [model + 0.27 * (i - 1) for model in range(len(table))]
            axis.bar(places, [row[name][key] for row in table.values()], 0.25, label=name)
        axis.set_xticks(range(len(table)), list(table), rotation=20)
        axis.set_ylabel(label)
        axis.legend()
    common.save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
