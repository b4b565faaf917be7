"""Time and peak memory of a training step: our trainer beside PyTorch with peft, taking turns.

Both train the same LoRA adapter (rank 8, seven projections) on the same weights and rows, batch 1.
PyTorch holds the dequantized weights in float32 and uses gradient checkpointing. Its peak is given
for the steps alone: building the model needs more. Ours has its checkpoints on storage
(`--checkpoints spill`), as a phone that is short of memory would. The same step in fixed16 takes
turns with both, and with `--bf16` PyTorch's in bfloat16, too (oneDNN without AMX).
"""

import statistics
import sys
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness

# (model, sequence length, optimizer): (bar of the peak in MB, aim), (bar of the ratio, aim).
BARS = {
    ("qwen2.5-0.5b", 256, "sgd"): ((64, 48), (0.52, 0.48)),
    ("qwen2.5-0.5b", 256, "adamw"): ((100, 84), (0.9, 0.75)),
    ("qwen2.5-0.5b", 1024, "sgd"): (None, (0.58, 0.5)),
    ("smollm2-135m", 256, "adamw"): ((60, 45), (0.39, 0.36)),
    ("gemma3-1b", 256, "sgd"): ((64, 57), (0.6, 0.5)),
}
# Of the first case in fixed16, on AVX512-VNNI.
FIXED16 = {
    "fixed16_ratio": ("fixed16 / float32", 0.78, 0.68),
    "fixed16_pytorch_ratio": ("fixed16 / PyTorch", 0.42, 0.36),
    "fixed16_bf16_ratio": ("fixed16 / PyTorch in bfloat16", 0.8, 0.65),
}


def main() -> int:
    """Run the benchmark, print tables and JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument(
        "cases",
        nargs="*",
        default=[":".join(map(str, key)) for key in BARS],
        metavar="MODEL:LENGTH:OPTIMIZER",
        help="model is smollm2-135m (real weights) or a recipe (default: those with bars)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn (%(default)s)")
    parser.add_argument("--lowering", default="mesp", choices=["mesp", "mebp"])
    parser.add_argument("--bf16", action="store_true", help="PyTorch in bfloat16 as well")
    options = parser.parse_args()
    machine, results = harness.Machine(), []
    for text in options.cases:
        model, length, optimizer = text.split(":")
        results.append(_measure(model, int(length), optimizer, options))
    _print(results)
    bars = [] if options.lowering == "mebp" else _bars(results)
    return harness.finish(options, machine, results, bars)


def _measure(model: str, seq_len: int, optimizer: str, options: Any) -> dict[str, Any]:
    case = harness.case(model, seq_len, options.lowering)
    pytorch = harness.PyTorch(case, options.threads)
    bfloat16 = harness.PyTorch(case, options.threads, "bfloat16") if options.bf16 else None
    ours, fixed16, theirs, halves, peaks, fixed16_peaks = [], [], [], [], [], []
    try:
        for _ in range(options.rounds):
            flags = ("--optimizer", optimizer, "--checkpoints", "spill")
            run = harness.train(case, options.steps + 1, options.threads, *flags)
            ours.append(run.seconds)
            peaks.append(run.peak_mb)
            flags += ("--arithmetic", "fixed16")
            run = harness.train(case, options.steps + 1, options.threads, *flags)
            fixed16.append(run.seconds)
            fixed16_peaks.append(run.peak_mb)
            theirs.append(pytorch.run(options.steps))
            if bfloat16:
                halves.append(bfloat16.run(options.steps))
    finally:
        pytorch.close()
        if bfloat16:
            bfloat16.close()
    return {
        "model": model,
        "seq_len": seq_len,
        "optimizer": optimizer,
        "lowering": options.lowering,
        "threads": options.threads,
        "seconds": statistics.median(chain(*ours)),
        "pytorch_seconds": statistics.median(chain(*theirs)),
        "ratio": _ratio(ours, theirs),
        "fixed16_seconds": statistics.median(chain(*fixed16)),
        "fixed16_ratio": _ratio(fixed16, ours),
        "fixed16_pytorch_ratio": _ratio(fixed16, theirs),
        "fixed16_bf16_ratio": _ratio(fixed16, halves) if halves else None,
        "fixed16_peak_mb": max(fixed16_peaks),
        "peak_mb": max(peaks),
        "pytorch_peak_mb": pytorch.peak_mb,
        "turns": {
            **{"toolkit": ours, "fixed16": fixed16, "pytorch": theirs, "bfloat16": halves},
            "peak_mb": peaks,
        },
        "exactness": harness.exactness(case),
    }


def _ratio(some: list[list[float]], others: list[list[float]]) -> float:
    """Return the median of the turns' ratios."""
    pairs = zip(some, others, strict=True)
    return statistics.median(statistics.median(a) / statistics.median(b) for a, b in pairs)


def _bars(results: list[dict[str, Any]]) -> list[harness.Bar]:
    bars, peaks = [], {}
    for result in results:
        key = (result["model"], result["seq_len"], result["optimizer"])
        peaks[key] = result["peak_mb"]
        peak, ratio = BARS.get(key, (None, None))
        name = f"{key[0]} seq {key[1]} {key[2]}"
        if peak:
            bars.append(harness.Bar(f"{name}: peak MB", result["peak_mb"], *peak))
        if ratio:
            bars.append(harness.Bar(f"{name}: step / PyTorch", result["ratio"], *ratio))
        if key == next(iter(BARS)):
            for field, (what, must, aim) in FIXED16.items():
                if result[field] is not None:
                    bars.append(harness.Bar(f"{name}: {what}", result[field], must, aim))
    short, long = (peaks.get(("qwen2.5-0.5b", length, "sgd")) for length in (256, 1024))
    if short and long:
        bars.append(harness.Bar("qwen2.5-0.5b: peak 1024 / peak 256", long / short, 1.6, 1.35))
    return bars


def _print(results: list[dict[str, Any]]) -> None:
    columns = ("", "s/step", "PyTorch", "ratio", "fixed16", "of float32", "of PyTorch")
    columns += ("of its bf16", "peak MB", "in fixed16", "PyTorch", "worst gradient error")
    rows = [
        (
            f"{r['model']} seq {r['seq_len']} {r['lowering']} {r['optimizer']}",
            r["seconds"],
            r["pytorch_seconds"],
            r["ratio"],
            *(r["fixed16_seconds"], r["fixed16_ratio"], r["fixed16_pytorch_ratio"]),
            r["fixed16_bf16_ratio"] or "",
            *(r["peak_mb"], r["fixed16_peak_mb"]),
            r["pytorch_peak_mb"],
            f"{r['exactness']['worst']:.1e} ({'passed' if r['exactness']['passed'] else 'FAILED'})",
        )
        for r in results
    ]
    harness.print_table(f"step, {results[0]['threads']} threads", columns, rows)


if __name__ == "__main__":
    sys.exit(main())
