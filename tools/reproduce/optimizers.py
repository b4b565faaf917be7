"""Optimizers: held-out loss after equal steps at tuned rates, against state and true peak.

Every optimizer of the engine on a real model, at the rate of its grid with the lowest held-out
loss. The peak is the kernel's high-water mark of a run of its own, without evaluations, with
checkpoints on storage; the state is what the engine's ledger says the optimizer remembers.
Optimizers that no other beats in both loss and peak are on the Pareto front.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from toolkit.settings.optimizers import OPTIMIZERS
from tools.bench import harness
from tools.reproduce import common, learning

# Around the usual rates; what scales its update by the parameter needs other ones for B = 0.
RATES: dict[str, tuple[float, ...]] = {
    "sgd": (0.03, 0.1, 0.3),
    "lomo": (0.03, 0.1, 0.3),
    "adamw": (1e-4, 3e-4, 1e-3),
    "lion": (1e-5, 3e-5, 1e-4),
    "adamw-8bit": (1e-4, 3e-4, 1e-3),
    "adalomo": (1e-3, 1e-2, 1e-1),
    "apollo": (1e-3, 3e-3, 1e-2),
    "apollo-mini": (1e-4, 1e-3, 1e-2),
    "mlorc": (1e-4, 3e-4, 1e-3),
}


def main(words: list[str] | None = None) -> int:
    """Measure what is not known yet, print tables, draw."""
    options = _options(words)
    results = common.Results(options.output, "optimizers")
    found = {name: _corpus(results, options, name) for name in options.corpora}
    _draw(found, results.picture)
    return 0


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = learning.parser(__doc__)
    parser.set_defaults(corpora=["chats"])
    parser.add_argument("--optimizers", nargs="*", default=list(OPTIMIZERS), choices=OPTIMIZERS)
    parser.add_argument("--steps", type=int, default=200, help="of each (%(default)s)")
    parser.add_argument("--every", type=int, default=50, help="steps (%(default)s)")
    parser.add_argument("--grid-steps", type=int, default=200, help="(%(default)s)")
    return parser.parse_args(words)


def _corpus(results: common.Results, options: argparse.Namespace, name: str) -> dict[str, Any]:
    data = learning.corpus(options, name)
    grids, points = {}, {}
    for optimizer in options.optimizers:
        way = learning.Way(optimizer, ("--optimizer", optimizer), RATES[optimizer])
        grids[optimizer] = learning.grid(results, options, data, way, options.grid_steps)
        rate = learning.best(grids[optimizer])
        run = learning.curve(results, options, data, way, rate, options.steps, options.every)
        memory = results.of(
            f"memory of {optimizer}, {options.model}, {options.seq_len} tokens",
            lambda flags=way.flags: _memory(harness.Case(data.bundle, data.train), flags, options),
        )
        points[optimizer] = {"rate": rate, "loss": run["losses"][-1], **memory}
    learning.print_grids(f"{name}: the grid", grids)
    front = pareto({key: (point["peak_mb"], point["loss"]) for key, point in points.items()})
    rows = [
        (
            key,
            f"{p['rate']:g}",
            f"{p['loss']:.4f}",
            p["state_mb"],
            p["peak_mb"],
            "yes" if key in front else "",
        )
        for key, p in points.items()
    ]
    columns = ("", "rate", "held-out loss", "state, MB", "peak, MB", "Pareto")
    harness.print_table(f"{name}: after {options.steps} steps", columns, rows)
    return points


def _memory(
    case: harness.Case, flags: Sequence[str], options: argparse.Namespace
) -> dict[str, float]:
    run = harness.train(case, 3, options.threads, *flags, "--checkpoints", "spill")
    states = [phase["ledger"]["optimizer"] for phase in run.of("phase") if "ledger" in phase]
    return {"peak_mb": run.peak_mb, "state_mb": max(states) / 1e6}


def pareto(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return the names that no other is below in one figure and not above in the other."""
    return [
        name
        for name, own in points.items()
        if not any(
            all(a <= b for a, b in zip(other, own, strict=True)) and other != own
            for other in points.values()
        )
    ]


def _draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    figure, axes = common.axes(len(found), 2, (12, 4.6 * len(found)))
    for row, (name, points) in zip(axes, found.items(), strict=True):
        labels = (("peak_mb", "peak, MB"), ("state_mb", "optimizer's state, MB"))
        for axis, (key, label) in zip(row, labels, strict=True):
            places = {of: (point[key], point["loss"]) for of, point in points.items()}
            front = sorted(places[of] for of in pareto(places))
            axis.plot(*zip(*front, strict=True), color="gray", linestyle="--", zorder=0)
            for i, (of, place) in enumerate(places.items()):
                axis.plot(*place, "o", color=f"C{i}", label=of)
            axis.set(xlabel=label, ylabel=f"held-out loss, {name}")
            axis.grid(alpha=0.3)
        row[0].legend(fontsize=8)
    common.save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
