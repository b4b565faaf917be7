"""Held-out loss against steps and seconds, exact gradients beside estimates: MeBP's figure.

A real model on real text and on chats. Every method goes at the learning rate of its grid that has
the lowest held-out loss after some steps; all of them change the adapter by plain SGD. Reported is
how many steps of an estimate reach the loss that ten exact ones have, where its curve ends; "not
within N" is a result, once the second best rate, too, did not come there. A step of mobizo has four
directions at once, so it makes a quarter of the steps that mezo makes. A best rate at an edge of
its grid is marked.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness
from tools.reproduce import common, learning

EXACT = ("exact", "lcsb")
_SGD = ("--optimizer", "sgd")
_RATES, _ESTIMATED = (0.01, 0.03, 0.1, 0.3), (1e-4, 3e-4, 1e-3)
WAYS = {
    way.name: way
    for way in (
        learning.Way("exact", ("--method", "exact", *_SGD), _RATES),
        learning.Way("lcsb", ("--method", "lcsb", *_SGD), _RATES),
        learning.Way("mezo", ("--method", "mezo"), _ESTIMATED),
        learning.Way("sparse-mezo", ("--method", "sparse-mezo"), _ESTIMATED),
        learning.Way("mobizo", ("--method", "mobizo", "--queries", "4"), _ESTIMATED, directions=4),
    )
}


def main(words: list[str] | None = None) -> int:
    """Measure what is not known yet, print tables, draw."""
    options = _options(words)
    results = common.Results(options.output, "convergence")
    found = {name: _corpus(results, options, name) for name in options.corpora}
    _draw(found, options.equal, results.picture)
    return 0


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = learning.parser(__doc__)
    parser.add_argument("--methods", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--steps", type=int, default=100, help="of exact, lcsb (%(default)s)")
    parser.add_argument("--zo-steps", type=int, default=5000, help="of mezo at most (%(default)s)")
    parser.add_argument("--every", type=int, default=10, help="exact steps (%(default)s)")
    parser.add_argument("--zo-every", type=int, default=100, help="estimates (%(default)s)")
    parser.add_argument("--grid-steps", type=int, default=100, help="exact (%(default)s)")
    parser.add_argument("--zo-grid-steps", type=int, default=1000, help="estimates (%(default)s)")
    parser.add_argument("--rates", type=float, nargs="*", help="grid of exact and lcsb")
    parser.add_argument("--zo-rates", type=float, nargs="*", help="grid of estimates")
    parser.add_argument("--equal", type=int, default=10, help="exact steps to equal (%(default)s)")
    options = parser.parse_args(words)
    if options.equal % options.every or options.equal > options.steps:
        parser.error("--equal has to be a multiple of --every, and at most --steps")
    if "exact" not in options.methods:
        parser.error("--methods needs exact, which the others are held against")
    return options


def _corpus(results: common.Results, options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Return grids and curves of one corpus, by method."""
    data = learning.corpus(options, name)
    grids: dict[str, list[tuple[float, float]]] = {}
    rates: dict[str, float] = {}
    curves: dict[str, dict[str, Any]] = {}
    target: float | None = None
    for method in sorted(options.methods, key=list(WAYS).index):  # exact first
        kind = "" if method in EXACT else "zo_"
        given = getattr(options, f"{kind}rates")
        way = learning.with_rates(WAYS[method], given)
        steps, every, grid_steps = (
            max(1, getattr(options, f"{kind}{what}") // way.directions)
            for what in ("steps", "every", "grid_steps")
        )
        grids[method] = learning.grid(results, options, data, way, grid_steps)
        to = target if kind else None
        runs = {}
        for rate in learning.ranked(grids[method])[: 2 if kind else 1]:
            runs[rate] = learning.curve(results, options, data, way, rate, steps, every, to)
            if to is None or _is_as_good(runs[rate], to):
                break
        else:
            rate = min(runs, key=lambda it: (bool(runs[it]["failed"]), runs[it]["losses"][-1]))
        rates[method], curves[method] = rate, runs[rate]
        if method == "exact":
            target = _as_good_as(curves[method], options.equal)
    learning.print_grids(f"{name}: the grid", grids)
    rows = _rows(grids, rates, curves, options.equal)
    columns = ("", "rate", "steps", "loss before", "loss after", "s/step", "equal steps", "seconds")
    harness.print_table(f"{name}: as good as {options.equal} exact steps", columns, rows)
    return {"grids": grids, "curves": curves}


def _as_good_as(exact: dict[str, Any], steps: int) -> float:
    """Return the loss after so many exact steps."""
    return exact["losses"][exact["steps"].index(steps)]


def _rows(grids: Any, rates: Any, curves: Any, equal: int) -> list[tuple[object, ...]]:
    target = _as_good_as(curves["exact"], equal)
    rows: list[tuple[object, ...]] = []
    for name, run in curves.items():
        rate, edges = rates[name], [rate for rate, _ in grids[name]]
        at = f"{rate:g}" + (" (edge)" if rate in (min(edges), max(edges)) else "")
        reached = reached_at(run, target)
        steps, seconds = (
            (run["steps"][reached], run["seconds"][reached])
            if reached is not None
            else (f"not within {run['steps'][-1]}", "")
        )
        first, last = run["losses"][0], run["losses"][-1]
        mean = run["seconds"][-1] / run["steps"][-1]
        rows.append(
            (name, at, run["steps"][-1], f"{first:.4f}", f"{last:.4f}", mean, steps, seconds)
        )
    return rows


def _is_as_good(run: dict[str, Any], target: float) -> bool:
    return reached_at(run, target) is not None


def reached_at(run: dict[str, Any], target: float) -> int | None:
    """Return the first evaluation whose loss is at most `target`, None if there is none."""
    return next((i for i, loss in enumerate(run["losses"]) if loss <= target), None)


def _draw(found: dict[str, Any], equal: int, path: Path) -> None:
    figure, axes = common.axes(len(found), 3, (15, 4.2 * len(found)))
    for row, (name, parts) in zip(axes, found.items(), strict=True):
        for i, (method, run) in enumerate(parts["curves"].items()):
            row[0].plot(run["steps"], run["losses"], color=f"C{i}", label=method)
            row[1].plot(run["seconds"], run["losses"], color=f"C{i}", label=method)
            rates, losses = zip(*parts["grids"][method], strict=True)
            row[2].plot(rates, losses, "o-", color=f"C{i}", label=method)
        exact = parts["curves"]["exact"]
        target = _as_good_as(exact, equal)
        for axis in row[:2]:
            axis.axhline(target, color="gray", linestyle=":", label=f"{equal} exact steps")
            axis.set_xscale("symlog")
            axis.set_xlim(left=0)
        row[0].set(xlabel="steps", ylabel=f"held-out loss, {name}")
        row[1].set(xlabel="seconds")
        row[2].set(xlabel="learning rate: the grid", xscale="log")
        highest = exact["losses"][0]
        row[2].set_ylim(min(exact["losses"]), highest + 0.3 * (highest - min(exact["losses"])))
        for axis in row:
            axis.grid(alpha=0.3)
        row[0].legend(fontsize=8)
    common.save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
