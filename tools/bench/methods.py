"""Methods, optimizers and places of the state beside each other: step times in turns, and peaks.

Each comparison trains the same bundle in two ways that take turns; its ratio is the median of the
turns' ratios of median seconds. Weights are random: time and peak do not depend on them.
Checkpoints are on storage.
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness

SMALL, LARGE = "qwen2.5-0.5b", "qwen2.5-3b"
SGD = ("--optimizer", "sgd")
ADAMW = ("--optimizer", "adamw")
MEZO = ("--method", "mezo")
MOBIZO = ("--method", "mobizo", "--queries", "4")
SPILL = ("--state", "spill")


@dataclass(frozen=True)
class Ratio:
    """Seconds of a step of one way, divided by `times` those of another; limits (must, aim)."""

    name: str
    seq_len: int
    flags: tuple[str, ...]
    other: tuple[str, ...]
    times: int
    limits: tuple[float, float]


@dataclass(frozen=True)
class Peak:
    """Peak of a way to train, in MB; limits (must, aim)."""

    name: str
    model: str
    flags: tuple[str, ...]
    limits: tuple[float, float]


RATIOS = [
    Ratio("mezo / exact", 256, MEZO, SGD, 1, (0.82, 0.77)),
    Ratio("mobizo of 4 queries / 4 mezo, T = 32", 32, MOBIZO, MEZO, 4, (0.92, 0.82)),
    Ratio("mobizo of 4 queries / 4 mezo, T = 256", 256, MOBIZO, MEZO, 4, (1.0, 0.96)),
    Ratio("last:6 of 24 layers / all", 256, (*SGD, "--layers", "last:6"), SGD, 1, (0.66, 0.62)),
    Ratio("adamw, state spilled / in memory", 256, (*ADAMW, *SPILL), ADAMW, 1, (1.05, 1.02)),
]
PEAKS = [
    Peak("mezo", SMALL, MEZO, (39, 36)),
    Peak("adamw-8bit", SMALL, ("--optimizer", "adamw-8bit"), (52, 48)),
    Peak("apollo-mini", SMALL, ("--optimizer", "apollo-mini"), (46, 43)),
    Peak("adalomo", SMALL, ("--optimizer", "adalomo"), (44, 41)),
    Peak("adamw, state spilled", SMALL, (*ADAMW, *SPILL), (30, 25)),
    Peak("adamw, state spilled", LARGE, (*ADAMW, *SPILL), (62, 52)),
]


def main() -> int:
    """Measure, print tables and JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn (%(default)s)")
    parser.add_argument("--only", default="", help="what has this in its name")
    options = parser.parse_args()
    machine, bars = harness.Machine(), []
    ratios = [_ratio(r, options) for r in RATIOS if options.only in r.name]
    peaks = [_peak(p, options) for p in PEAKS if options.only in p.name]
    for ratio, found in zip((r for r in RATIOS if options.only in r.name), ratios, strict=True):
        bars.append(harness.Bar(ratio.name, found["ratio"], *ratio.limits))
    for peak, found in zip((p for p in PEAKS if options.only in p.name), peaks, strict=True):
        bars.append(harness.Bar(f"{peak.name}, {peak.model}: MB", found["peak_mb"], *peak.limits))
    columns = ("", "ratio", "fastest turn", "slowest", "s/step", "other's")
    rows = [
        (r["name"], r["ratio"], min(r["turns"]), max(r["turns"]), *r["seconds"]) for r in ratios
    ]
    harness.print_table("seconds of a step", columns, rows)
    return harness.finish(options, machine, {"ratios": ratios, "peaks": peaks}, bars)


def _train(case: harness.Case, flags: Sequence[str], options: Any) -> harness.Run:
    # Methods of forward passes alone have no checkpoints, and refuse the option.
    forward_alone = any(name in flags for name in ("mezo", "mobizo"))
    more = () if forward_alone else ("--checkpoints", "spill")
    return harness.train(case, options.steps + 1, options.threads, *flags, *more)


def _ratio(ratio: Ratio, options: Any) -> dict[str, Any]:
    case = harness.case(SMALL, ratio.seq_len)
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(options.rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            run = _train(case, (ratio.flags, ratio.other)[which], options)
            found[which].append(statistics.median(run.seconds))
    turns = [a / (ratio.times * b) for a, b in zip(*found, strict=True)]
    return {
        "name": ratio.name,
        "ratio": statistics.median(turns),
        "turns": turns,
        "seconds": [statistics.median(of) for of in found],
    }


def _peak(peak: Peak, options: Any) -> dict[str, Any]:
    run = _train(harness.case(peak.model), peak.flags, options)
    return {"name": peak.name, "model": peak.model, "peak_mb": run.peak_mb}


if __name__ == "__main__":
    sys.exit(main())
