"""The largest model that fits N MB: backpropagation, MeZO, published engines, and here.

arXiv 2511.11362 compares the largest models that backpropagation and MeZO fit into a memory; its
premise is that weights and, for backpropagation, every layer's activations are in memory. Both are
counted here from the programs that the engine runs: all weights (16 bits, and for backpropagation
also 4 bits, as here), adapters, their gradients, the intermediates of all blocks
(backpropagation: those of the lowering that keeps them, mebp) or of one (MeZO), and the logits with
their gradients. Published figures are those of `toolkit/trace/published.yaml`. What is here is what
`toolkit plan` predicts of exact gradients and of mezo, checkpoints and state on storage, and beside
it what real runs of some models took, which is held against the prediction.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from toolkit.bundle.layout import parameter_shapes
from toolkit.planning.arena import arena_bytes
from toolkit.planning.graph import Traced
from toolkit.planning.model import open_model
from toolkit.planning.predict import Planner
from toolkit.planning.settings import Machine, Settings
from toolkit.recipes import get_recipe, recipes
from toolkit.trace.published import all_figures, published_size
from tools.bench import harness
from tools.reproduce import common

BUDGETS = [30, 50, 75, 100, 150, 250, 400, 700, 1500, 4000, 10000]
MEASURED = ["smollm2-135m", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "gemma3-4b"]
HERE = {
    "here, exact": ("--optimizer", "sgd", "--checkpoints", "spill", "--state", "spill"),
    "here, mezo": ("--method", "mezo", "--state", "spill"),
}
_WEIGHT = 2  # bytes
_TOLERANCE = 0.04


@dataclass(frozen=True)
class Point:
    """A model that a way to train fits into so much memory; billions of parameters."""

    model: str
    parameters: float
    megabytes: float


def main(words: list[str] | None = None) -> int:
    """Count and measure what is not known yet, print tables, draw; 1 if a prediction is off."""
    options = _options(words)
    results = common.Results(options.output, "largest_model")
    ways = _counted(results, options)
    ways |= _published(options.seq_len)
    _print(ways, options.budgets)
    measured = _measured(results, options)
    worst = _compare(measured, ways)
    _draw(ways, measured, options.seq_len, results.picture)
    return int(worst > _TOLERANCE)


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = common.parser(__doc__)
    names = sorted(recipes())
    parser.add_argument("models", nargs="*", default=names, help="recipes (all)")
    parser.add_argument("--seq-len", type=int, default=256, help="(%(default)s)")
    parser.add_argument("--budgets", type=int, nargs="*", default=BUDGETS, help="MB")
    parser.add_argument("--measure", nargs="*", default=MEASURED, help="to be run (%(default)s)")
    parser.add_argument("--steps", type=int, default=2, help="of a run (%(default)s)")
    return parser.parse_args(words)


def _counted(results: common.Results, options: argparse.Namespace) -> dict[str, list[Point]]:
    """Return what fits by the programs' own sizes: conventional engines, and this one."""
    ways: dict[str, list[Point]] = {}
    for name in options.models:
        found = results.of(
            f"{name}, {options.seq_len} tokens, counted",
            lambda name=name: _count(name, options.seq_len),
        )
        for way, megabytes in found["megabytes"].items():
            ways.setdefault(way, []).append(Point(name, found["billions"], megabytes))
    return ways


def _count(name: str, seq_len: int) -> dict[str, Any]:
    model = open_model(name)
    planner = Planner(model)
    config = get_recipe(name).model_config()
    # A head that is the embedding, too, is one of the parameters under one name.
    parameters = sum(prod(shape) for shape in parameter_shapes(config).values())
    asked = replace(model.settings, seq_len=seq_len)
    keeping = planner.traced(replace(asked, lowering="mebp"))
    plain = planner.traced(asked)
    quantized = planner.predict(asked, Machine()).base_bytes
    whole, kept = _WEIGHT * parameters, 4 * seq_len * config.vocab_size
    megabytes = {
        "backpropagation, 16-bit weights": whole + backpropagation(keeping) + 2 * kept,
        "backpropagation, 4-bit weights": quantized + backpropagation(keeping) + 2 * kept,
        "MeZO, 16-bit weights": whole + zeroth_order(plain) + kept,
    }
    for way, flags in HERE.items():
        megabytes[way] = planner.predict(_settings(asked, flags), Machine()).peak
    return {
        "billions": parameters / 1e9,
        "megabytes": {way: size / 1e6 for way, size in megabytes.items()},
    }


def _settings(asked: Settings, flags: tuple[str, ...]) -> Settings:
    names = [flag.removeprefix("--") for flag in flags[::2]]
    return replace(asked, **dict(zip(names, flags[1::2], strict=True)))


def backpropagation(traced: Traced) -> int:
    """Return the bytes of adapters, gradients and intermediates of all blocks.

    What a block keeps is what autodiff stores of it, the arena of its backward program with the
    lowering mebp.
    """
    kept = sum(
        len(layers) * arena_bytes(traced.programs[f"{kind}_backward"])
        for kind, layers in traced.blocks.items()
    )
    return 2 * _adapters(traced) + kept


def zeroth_order(traced: Traced) -> int:
    """Return the bytes of adapters and of the intermediates of one block's forward pass."""
    kept = max(arena_bytes(traced.programs[f"{kind}_forward"]) for kind in traced.blocks)
    return _adapters(traced) + kept


def _adapters(traced: Traced) -> int:
    return sum(
        len(layers) * sum(value.bytes for value in traced.adapters(kind))
        for kind, layers in traced.blocks.items()
    )


def _published(seq_len: int) -> dict[str, list[Point]]:
    """Return the figures of MeBP and MeSP, of this length where they name one."""
    ways: dict[str, list[Point]] = {}
    for figure in all_figures():
        paper = figure.source.split(",")[0]
        if paper not in ("MeBP", "MeSP") or figure.seq_len not in (None, seq_len):
            continue
        way = f"{figure.method}, published by {paper}"
        size = published_size(figure.model)
        ways.setdefault(way, []).append(Point(figure.model, size, figure.megabytes))
    return ways


def largest(points: list[Point], budget: float) -> Point | None:
    """Return the largest model of those that fit."""
    fitting = [point for point in points if point.megabytes <= budget]
    return max(fitting, key=lambda point: point.parameters, default=None)


def _print(ways: dict[str, list[Point]], budgets: list[int]) -> None:
    rows = []
    for way, points in ways.items():
        best = [largest(points, budget) for budget in budgets]
        rows.append((way, *(f"{p.model} ({p.parameters:.2g} B)" if p else "-" for p in best)))
    # Budgets are rows: names of models are wide.
    columns = ("MB", *(row[0] for row in rows))
    table = [(budget, *(row[i + 1] for row in rows)) for i, budget in enumerate(budgets)]
    harness.print_table("largest model that fits", columns, table)


def _measured(results: common.Results, options: argparse.Namespace) -> dict[str, list[Point]]:
    """Return peaks of real runs, checkpoints and state on storage."""
    ways: dict[str, list[Point]] = {}
    for name in options.measure:
        counted = results.of(
            f"{name}, {options.seq_len} tokens, counted",
            lambda name=name: _count(name, options.seq_len),
        )
        for way, flags in HERE.items():
            run = results.of(
                f"{name}, {options.seq_len} tokens, {way}, {options.threads} threads",
                lambda name=name, flags=flags: common.measured(
                    harness.case(name, options.seq_len), options.steps, options.threads, *flags
                ),
            )
            ways.setdefault(way, []).append(Point(name, counted["billions"], run["peak_mb"]))
    return ways


def _compare(measured: dict[str, list[Point]], ways: dict[str, list[Point]]) -> float:
    """Print measured beside predicted peaks; return the largest relative difference."""
    rows, worst = [], 0.0
    for way, points in measured.items():
        predicted = {point.model: point.megabytes for point in ways[way]}
        for point in points:
            if point.model not in predicted:
                continue
            error = predicted[point.model] / point.megabytes - 1
            worst = max(worst, abs(error))
            rows.append(
                (point.model, way, predicted[point.model], point.megabytes, f"{error:+.1%}")
            )
    columns = ("", "", "predicted, MB", "measured, MB", "error")
    harness.print_table("the plan beside real runs", columns, rows)
    return worst


def _draw(
    ways: dict[str, list[Point]], measured: dict[str, list[Point]], seq_len: int, path: Path
) -> None:
    figure, axes = common.axes(1, 1, (9, 5.5))
    axis = axes[0][0]
    for i, (way, points) in enumerate(ways.items()):
        style = "o" if "published" in way else ""
        line = [] if style else _stairs(points)
        if style:
            place = [point.megabytes for point in points], [point.parameters for point in points]
            axis.plot(*place, style, color=f"C{i}", label=way, zorder=3)
        else:
            axis.step(*zip(*line, strict=True), where="post", color=f"C{i}", label=way)
        for point in measured.get(way, []):
            axis.plot(point.megabytes, point.parameters, "x", color=f"C{i}", zorder=3)
    axis.plot([], [], "x", color="gray", label="here, measured")
    axis.set(xscale="log", yscale="log", xlabel="peak memory, MB", ylabel="parameters, billions")
    axis.set_title(f"largest model that fits, {seq_len} tokens", fontsize=10)
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    common.save(figure, path)


def _stairs(points: list[Point]) -> list[tuple[float, float]]:
    """Return where, with growing memory, a larger model fits, and how large it is."""
    line: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: point.megabytes):
        if not line or point.parameters > line[-1][1]:
            line.append((point.megabytes, point.parameters))
    return line


if __name__ == "__main__":
    sys.exit(main())
