"""How the attention of layers with a window grows with length, and that of layers without.

Six full-size layers of Gemma 3 (five have a window) train at two lengths, taking turns;
seconds are the engine's own of the attention operators, forward and backward, by layer.
"""

import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness

LENGTHS = (2048, 4096)
LAYERS = 6
BAR = (2.5, 2.2)


def main() -> int:
    """Measure, print a table, write JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("model", nargs="?", default="gemma3-1b", help="(%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="of each length (%(default)s)")
    options = parser.parse_args()
    machine, seconds = harness.Machine(), defaultdict(list)
    cases = {
        length: harness.case(options.model, length, layers=LAYERS, lengths=LENGTHS)
        for length in LENGTHS
    }
    for _ in range(options.turns):
        for length, case in cases.items():
            flags = ("--optimizer", "sgd", "--checkpoints", "spill")
            run = harness.train(case, 2, options.threads, *flags)
            for kind, value in _attention(run, _windowed(options.model)).items():
                seconds[kind, length].append(value)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    results = [_result(kind, medians) for kind in ("window", "full")]
    _print(options.model, results)
    bar = harness.Bar("attention of a layer with a window, long / short", results[0]["ratio"], *BAR)
    return harness.finish(options, machine, results, [bar])


def _windowed(model: str) -> list[bool]:
    from toolkit.recipes import get_recipe

    config = get_recipe(model).model_config()
    return [kind == "sliding_attention" for kind in config.layer_types]


def _attention(run: harness.Run, windowed: list[bool]) -> dict[str, float]:
    """Return seconds of attention in the second step, a mean layer with a window and without."""
    spent: dict[str, dict[int, float]] = {"window": defaultdict(float), "full": defaultdict(float)}
    for phase in run.of("phase"):
        if phase["step"] == 2 and phase["phase"] in ("forward", "backward"):
            times = phase["operators"].items()
            own = sum(time["ns"] for name, time in times if name.startswith("attention"))
            kind = "window" if windowed[phase["layer"]] else "full"
            spent[kind][phase["layer"]] += own / 1e9
    return {kind: statistics.mean(layers.values()) for kind, layers in spent.items()}


def _result(kind: str, medians: dict[tuple[str, int], float]) -> dict[str, Any]:
    short, long = (medians[kind, length] for length in LENGTHS)
    return {"layer": kind, "seconds": {LENGTHS[0]: short, LENGTHS[1]: long}, "ratio": long / short}


def _print(model: str, results: list[dict[str, Any]]) -> None:
    columns = ("layer", *(f"s at {length}" for length in LENGTHS), "ratio")
    rows = [
        (r["layer"], *(f"{r['seconds'][length]:.3f}" for length in LENGTHS), f"{r['ratio']:.2f}")
        for r in results
    ]
    harness.print_table(f"attention of {model}, forward and backward", columns, rows)


if __name__ == "__main__":
    sys.exit(main())
