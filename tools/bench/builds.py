"""This build beside another one, taking turns: seconds of a step and peak memory.

A change that must cost nothing is held against the build before it. Each checkout uses its own
package, trainer and bundles (formats may differ between them), with the same weights, rows and
settings, checkpoints on storage:

    git worktree add ../before COMMIT && (cd ../before && make setup)
    python tools/bench/builds.py ../before
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness

CASES = [
    "smollm2-135m:256:adamw",
    "qwen2.5-0.5b:256:sgd",
    "qwen2.5-0.5b:256:adamw",
    "qwen2.5-0.5b:1024:sgd",
    "qwen2.5-0.5b:64:sgd",
]
WORSE = 1.03
# Prints where a checkout's trainer, bundle and data are; makes the latter if needed.
LOCATE = """
import json, sys
from tools.bench import harness
from toolkit.runtime import native_directory
case = harness.case(sys.argv[1], int(sys.argv[2]))
trainer = native_directory("trainer") / "trainer"
print(json.dumps([str(trainer), str(case.bundle), str(case.data)]))
"""


def main() -> int:
    """Run the comparison, print tables and JSON; return 1 if a case is worse by more than 3 %."""
    parser = harness.parser(__doc__)
    parser.add_argument("other", type=Path, help="checkout of the build before, set up")
    parser.add_argument("cases", nargs="*", default=CASES, metavar="MODEL:LENGTH:OPTIMIZER")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn (%(default)s)")
    options = parser.parse_args()
    machine, results, bars = harness.Machine(), [], []
    for text in options.cases:
        result = _compare(text, options)
        results.append(result)
        for name in ("seconds", "peak_mb"):
            bar = harness.Bar(f"{text}: {name} / other's", result[name]["ratio"], WORSE, 1.0)
            bars.append(bar)
    _print(results)
    return harness.finish(options, machine, results, bars)


def _compare(text: str, options: Any) -> dict[str, Any]:
    model, length, optimizer = text.split(":")
    checkouts = (harness.ROOT, options.other.resolve())
    places = [_locate(checkout, model, length) for checkout in checkouts]
    seconds, peaks = ([], []), ([], [])
    for turn in range(options.rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            steps, peak = _train(places[which], optimizer, options)
            seconds[which].append(steps)
            peaks[which].append(peak)
    pairs = zip(*seconds, strict=True)
    turns = [statistics.median(a) / statistics.median(b) for a, b in pairs]
    fastest = [min(min(steps) for steps in of) for of in seconds]
    return {
        "case": text,
        "seconds": {"ratio": statistics.median(turns), "turns": turns, "fastest": fastest},
        "peak_mb": {
            "ratio": statistics.median(peaks[0]) / statistics.median(peaks[1]),
            "values": peaks,
        },
    }


def _locate(checkout: Path, *arguments: str) -> list[str]:
    python = checkout / ".venv" / "bin" / "python"
    command = [str(python), "-c", LOCATE, *arguments]
    done = subprocess.run(command, cwd=checkout, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"error: {checkout} is not set up. Run `make setup` there")
    return json.loads(done.stdout.splitlines()[-1])


def _train(places: list[str], optimizer: str, options: Any) -> tuple[list[float], float]:
    """Train some steps after one that warms up; return their seconds and the peak in MB."""
    trainer, bundle, data = places
    with tempfile.TemporaryDirectory(dir=harness.CACHE) as folder:
        run = Path(folder) / "run"
        command = [trainer, "train", "--out", str(run), "--bundle", bundle, "--data", data]
        command += ["--steps", str(options.steps + 1), "--threads", str(options.threads)]
        command += ["--lr", "1e-3", "--optimizer", optimizer, "--checkpoints", "spill"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        records = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()]
    seconds = [record["seconds"] for record in records if record["type"] == "step"]
    end = next(record for record in records if record["type"] == "end")
    return seconds[1:], end["peak"] * 1024 / 1e6


def _print(results: list[dict[str, Any]]) -> None:
    columns = ("", "s/step, ratio", "fastest", "other", "peak, ratio", "MB", "other")
    rows = []
    for result in results:
        seconds, peaks = result["seconds"], result["peak_mb"]
        medians = [statistics.median(of) for of in peaks["values"]]
        rows.append(
            (
                result["case"],
                seconds["ratio"],
                *seconds["fastest"],
                peaks["ratio"],
                *medians,
            )
        )
    harness.print_table("this build / the other", columns, rows)


if __name__ == "__main__":
    sys.exit(main())
