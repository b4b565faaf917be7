"""How peak memory and step time grow: with length, depth, rank and accumulation. JSON and a PNG.

Each curve changes one setting of one model (SGD). Beside time and peak stand the categories of the
engine's ledger at the peak, so that what grows has a name.
"""

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness

CURVES = {
    "tokens": ("qwen2.5-0.5b", (64, 128, 256, 512, 1024, 2048, 4096)),
    "layers": ("smollm2-135m", (4, 12, 30, 48)),
    "rank": ("smollm2-135m", (4, 8, 16, 32, 64)),
    "accumulation": ("smollm2-135m", (1, 2, 4, 8, 16)),
}


def main() -> int:
    """Measure, draw, write JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("curves", nargs="*", default=list(CURVES), help=f"of {list(CURVES)}")
    parser.add_argument("--png", type=Path, default=harness.CACHE / "scaling.png")
    options = parser.parse_args()
    machine, results, bars = harness.Machine(), {}, []
    for curve in options.curves:
        results[curve] = [_point(curve, value, options) for value in CURVES[curve][1]]
        _print(curve, results[curve])
        bars += _bars(curve, results[curve])
    _draw(results, options.png)
    print(f"\n{options.png}", file=sys.stderr)
    return harness.finish(options, machine, results, bars)


def _point(curve: str, value: int, options: Any) -> dict[str, Any]:
    model, values = CURVES[curve]
    case = harness.case(
        model,
        value if curve == "tokens" else 256,
        rank=value if curve == "rank" else 8,
        layers=value if curve == "layers" else None,
        lengths=values if curve == "tokens" else (),
    )
    accumulation = value if curve == "accumulation" else 1
    steps = 2 if value >= 2048 else 4
    flags = ("--optimizer", "sgd", "--grad-accum", str(accumulation), "--checkpoints", "spill")
    run = harness.train(case, steps, options.threads, *flags)
    phases = [phase for phase in run.of("phase") if phase["phase"] != "load"]
    highest = max(phases, key=lambda phase: phase["mem"]["hwm"])
    return {
        curve: value,
        "seconds": statistics.median(run.seconds),
        "peak_mb": run.peak_mb,
        "ledger_mb": {name: size / 1e6 for name, size in highest["ledger"].items()},
        "base_reads": _base_reads(run, case),
    }


def _base_reads(run: harness.Run, case: harness.Case) -> float:
    """Return how often a step maps the blocks' weights: twice, however many sequences it has."""
    last = run.of("step")[-1]["step"]
    phases = [p for p in run.of("phase") if p["step"] == last]
    layers = run.of("run")[0]["bundle"]["layers"]
    return sum(p["phase"] in ("forward", "backward") for p in phases) / layers


def _bars(curve: str, points: list[dict[str, Any]]) -> list[harness.Bar]:
    if curve == "layers":
        # What may grow with depth: adapters, optimizer, checkpoints.
        def rest(point: dict[str, Any]) -> float:
            kept = ("adapters", "optimizer", "checkpoints", "gradients")
            return point["peak_mb"] - sum(point["ledger_mb"][name] for name in kept)

        growth = rest(points[-1]) - rest(points[0])
        return [
            harness.Bar("depth 4 to 48: growth beside adapters, checkpoints, MB", growth, 1, 0.5)
        ]
    if curve == "accumulation":
        reads = max(point["base_reads"] for point in points)
        return [harness.Bar("passes over the weights a step", reads, 2, 2)]
    return []


def _print(curve: str, points: list[dict[str, Any]]) -> None:
    names = ("base", "adapters", "checkpoints", "arena", "scratch", "runtime")
    rows = [
        (
            p[curve],
            f"{p['seconds']:.3f}",
            f"{p['peak_mb']:.1f}",
            *(f"{p['ledger_mb'][name]:.1f}" for name in names),
        )
        for p in points
    ]
    harness.print_table(
        f"{CURVES[curve][0]} against {curve}", (curve, "s/step", "peak MB", *names), rows
    )


def _draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(results), figsize=(4 * len(results), 7), squeeze=False)
    names = ("runtime", "adapters", "gradients", "checkpoints", "base", "scratch", "arena")
    for column, (curve, points) in enumerate(results.items()):
        values = [point[curve] for point in points]
        peak, time = axes[0][column], axes[1][column]
        stacks = [[point["ledger_mb"][name] for point in points] for name in names]
        peak.stackplot(values, stacks, labels=names, alpha=0.75)
        peak.plot(values, [p["peak_mb"] for p in points], "k.-", label="peak (VmHWM)")
        peak.set(title=f"{CURVES[curve][0]} against {curve}", ylabel="MB", ylim=(0, None))
        time.plot(values, [p["seconds"] for p in points], "o-")
        time.set(xlabel=curve, ylabel="seconds a step", ylim=(0, None))
        for axis in (peak, time):
            axis.set_xscale("log", base=2)
            axis.set_xticks(values, [str(value) for value in values])
            axis.grid(alpha=0.3)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="lower center", ncol=4)
    figure.suptitle("Peak memory and time of a step, LoRA, SGD")
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
