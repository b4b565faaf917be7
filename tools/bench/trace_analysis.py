"""How long `toolkit analyze` takes for a long run, and how much memory.

    python tools/bench/trace_analysis.py
    python tools/bench/trace_analysis.py --rounds 5 --json analysis.json

Makes the trace of 5,000 steps of a model of 24 layers at full detail (a phone's, with operators,
samples and temperatures; 190 MB, kept in .cache/bench) and runs the command as a user does, several
times. Wall and processor time, the process's own high-water mark (VmHWM) and the size of the report
are printed; exit code 1 when the median of the times or the largest of the others misses its bar.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.trace.synthetic import Recipe, write_trace  # noqa: E402

FOLDER = ROOT / ".cache" / "bench" / "analysis"
SECONDS, MEMORY, REPORT = 5.0, 300e6, 3e6

# Runs the command line in this process and then reads its peak: the kernel forgets it afterwards.
COMMAND = """
import json, sys
from pathlib import Path
from toolkit.cli.main import main
figures = sys.argv.pop(1)
try:
    main()
finally:
    status = Path("/proc/self/status").read_text()
    Path(figures).write_text(status.split("VmHWM:")[1].split()[0])
"""


@dataclass(frozen=True)
class Round:
    """One run of the command: seconds of wall and processor time, bytes."""

    wall: float
    processor: float
    peak: int
    report: int


def main() -> int:
    """Measure, print, and return the exit code."""
    options = _options()
    trace = _trace(options.steps, options.layers)
    rounds = [_measure(trace) for _ in range(options.rounds)]
    wall = statistics.median(r.wall for r in rounds)
    peak, report = max(r.peak for r in rounds), max(r.report for r in rounds)
    bars = [("wall time", wall, SECONDS), ("peak memory", peak, MEMORY), ("report", report, REPORT)]
    _print(trace, rounds, bars)
    if options.json:
        result = {
            "steps": options.steps,
            "layers": options.layers,
            "trace_bytes": trace.stat().st_size,
            "load_average": os.getloadavg()[0],
            "rounds": [asdict(r) for r in rounds],
            "bars": {name: {"value": value, "bar": bar} for name, value, bar in bars},
        }
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    return int(any(value > bar for _, value, bar in bars))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5000, help="(%(default)s)")
    parser.add_argument("--layers", type=int, default=24, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    return parser.parse_args()


def _trace(steps: int, layers: int) -> Path:
    path = FOLDER / f"{steps}x{layers}" / "trace.jsonl"
    source = ROOT / "tests" / "trace" / "synthetic.py"
    if not path.is_file() or path.stat().st_mtime < source.stat().st_mtime:
        write_trace(path, Recipe(steps=steps, layers=layers, phone=True))
    return path


def _measure(trace: Path) -> Round:
    with tempfile.TemporaryDirectory() as folder:
        figures, report = Path(folder) / "peak", Path(folder) / "report.html"
        words = ["analyze", str(trace), "-o", str(report)]
        before, begin = os.times(), time.monotonic()
        subprocess.run(
            [sys.executable, "-c", COMMAND, str(figures), *words],
            check=True,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        wall, after = time.monotonic() - begin, os.times()
        processor = (after.children_user - before.children_user) + (
            after.children_system - before.children_system
        )
        return Round(wall, processor, int(figures.read_text()) * 1024, report.stat().st_size)


def _print(trace: Path, rounds: list[Round], bars: list[tuple[str, float, float]]) -> None:
    print(
        f"{trace.stat().st_size / 1e6:.0f} MB of trace, load average {os.getloadavg()[0]:.1f} "
        f"on {os.cpu_count()} cores"
    )
    print(f"{'round':>5} {'wall':>8} {'processor':>10} {'peak':>9} {'report':>9}")
    for number, r in enumerate(rounds, 1):
        print(
            f"{number:5} {r.wall:6.2f} s {r.processor:8.2f} s {r.peak / 1e6:6.0f} MB "
            f"{r.report / 1e6:6.2f} MB"
        )
    for name, value, bar in bars:
        size, unit = (1.0, "s") if bar == SECONDS else (1e6, "MB")
        verdict = "missed" if value > bar else "held"
        print(f"{name}: {value / size:.2f} {unit} of at most {bar / size:g} {unit}, {verdict}")


if __name__ == "__main__":
    sys.exit(main())
