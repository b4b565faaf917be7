"""Time and host memory of exporting a model with random weights."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness


def main() -> int:
    """Measure, print a table, write JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("recipe", nargs="?", default="qwen2.5-3b", help="(%(default)s)")
    options = parser.parse_args()
    machine = harness.Machine()
    harness.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=harness.CACHE) as folder:
        code = "from toolkit.cli.main import main; main()"
        words = ["export", "--random-weights", options.recipe, "-o", str(Path(folder) / "bundle")]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words], stdout=sys.stderr, env=harness.environment()
        )
        # wait4 tells the kernel's peak of this child alone.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit("error: the export failed")
    result = {
        "recipe": options.recipe,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * 1024 / 1e6,
    }
    columns = ("", "seconds", "CPU seconds", "peak MB")
    row = (options.recipe, seconds, result["cpu_seconds"], result["peak_mb"])
    harness.print_table("export of random weights", columns, [row])
    bars = []
    if options.recipe == "qwen2.5-3b":
        bars = [
            harness.Bar("export of 3B: minutes", seconds / 60, 6, 3),
            harness.Bar("export of 3B: peak MB", result["peak_mb"], 3000, 3000),
        ]
    return harness.finish(options, machine, result, bars)


if __name__ == "__main__":
    sys.exit(main())
