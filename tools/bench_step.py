"""Time and memory of a training step: our trainer beside PyTorch with peft, alternated in one run.

Both train the same LoRA adapter (rank 8, seven projections) on the same weights and rows with SGD,
batch 1. PyTorch holds the dequantized weights in float32 and uses gradient checkpointing. Machines
are shared and their speed drifts, so the two take turns and medians and their ratio are reported,
with the time the hypervisor took (steal) and the load.

Peaks are the kernel's high-water mark (VmHWM) of each process. PyTorch's is given for the steps
alone: building the model needs more.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BENCH = ROOT / ".cache" / "bench"


def main() -> int:
    """Run the benchmark, print a table and JSON; return the exit code."""
    options = _options()
    if options.worker:
        _pytorch_worker(Path(options.worker[0]), Path(options.worker[1]), options.threads)
        return 0
    results = [_measure(name, options) for name in options.models]
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n")
    else:
        print(json.dumps(results, indent=2))
    for result in results:
        _print(result)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models",
        nargs="*",
        default=["smollm2-135m", "qwen2.5-0.5b"],
        help="smollm2-135m (the demo's weights) or a recipe for random weights (default: both)",
    )
    parser.add_argument("--seq-len", type=int, default=256, help="tokens (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    parser.add_argument("--method", default="mesp", choices=["mesp", "mebp"])
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    bundle, data = _bundle_and_data(name, options.seq_len, options.method)
    pytorch = _PyTorch(bundle, data, options.threads)
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    steal = _cpu_times()
    try:
        for _ in range(options.rounds):
            ours.append(_run_trainer(bundle, data, options))
            theirs.append(pytorch.run(options.steps))
    finally:
        pytorch.close()
    return {
        "model": name,
        "seq_len": options.seq_len,
        "method": options.method,
        "threads": options.threads,
        "toolkit": _summary(ours),
        "pytorch": _summary(theirs),
        "ratio": _median(ours) / _median(theirs),
        "steal": _share_stolen(steal, _cpu_times()),
        "load_average": os.getloadavg()[1],
        "cpu": _cpu_name(),
    }


def _bundle_and_data(name: str, seq_len: int, method: str) -> tuple[Path, Path]:
    """Export the model and make random tokens, once."""
    folder = BENCH / f"{name}-{seq_len}-{method}"
    bundle, data = folder / "bundle", folder / "data"
    if not (bundle / "manifest.json").is_file():
        from tools.fetch_demo_assets import MODEL

        model = [str(MODEL)] if name == "smollm2-135m" else ["--random-weights", name]
        length = ["--seq-len", str(seq_len), "--rank", "8", "--alpha", "16"]
        _toolkit("export", *model, "-o", str(bundle), "--method", method, *length)
    if not (data / "data.json").is_file():
        _toolkit("data", "--random", "8", "--bundle", str(bundle), "-o", str(data))
    return bundle, data / "train.ptd"


def _toolkit(*arguments: str) -> None:
    command = [sys.executable, "-c", "from toolkit.cli.main import main; main()", *arguments]
    subprocess.run(command, check=True, stdout=sys.stderr, env=_environment())


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def _run_trainer(bundle: Path, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run some steps after one that warms up and return their seconds and the process's peak."""
    from toolkit.runtime import native_directory

    with tempfile.TemporaryDirectory(dir=BENCH) as folder:
        run = Path(folder) / "run"
        command = [str(native_directory("trainer") / "trainer"), "train", "--bundle", str(bundle)]
        command += ["--data", str(data), "--out", str(run), "--steps", str(options.steps + 1)]
        command += ["--optimizer", "sgd", "--lr", "1e-3", "--threads", str(options.threads)]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode != 0:
            raise SystemExit("error: the trainer failed")
        records = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()]
        steps = [record for record in records if record["type"] == "step"]
    # The trainer resets its high-water mark between phases and keeps the highest of all.
    [end] = [record for record in records if record["type"] == "end"]
    return {"seconds": [step["seconds"] for step in steps[1:]], "peak_kib": end["peak"]}


class _PyTorch:
    """A process that holds the model and takes its steps on demand."""

    def __init__(self, bundle: Path, data: Path, threads: int) -> None:
        command = [sys.executable, __file__, "--threads", str(threads)]
        command += ["--worker", str(bundle), str(data)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Idle OpenMP threads would otherwise spin while our trainer is being measured.
            env=_environment(OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="passive"),
        )
        self.run(1)

    def run(self, steps: int) -> dict[str, Any]:
        """Take steps and return their seconds and the peak."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("error: the PyTorch process ended")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def _pytorch_worker(bundle: Path, data: Path, threads: int) -> None:
    """Build the model, then take as many steps as each line of standard input says."""
    import warnings

    warnings.simplefilter("ignore")
    import torch

    from toolkit.bundle.bundle import Bundle
    from toolkit.data.dataset import read_rows
    from toolkit.oracle.model import build_model

    torch.set_num_threads(threads)
    model = build_model(Bundle.open(bundle))
    model.set_attn_implementation("sdpa")
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    rows = read_rows(data)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    Path("/proc/self/clear_refs").write_text(
        "5"
    )  # the peak of building is not the peak of training
    sample = 0
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            tokens = torch.from_numpy(rows.tokens[sample % len(rows.tokens)]).long()[None]
            sample += 1
            started = time.perf_counter()
            model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(time.perf_counter() - started)
        print(json.dumps({"seconds": seconds, "peak_kib": _high_water()}), flush=True)


def _high_water() -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))


def _median(turns: list[dict[str, Any]]) -> float:
    return statistics.median(second for turn in turns for second in turn["seconds"])


def _summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [second for turn in turns for second in turn["seconds"]]
    return {
        "seconds_median": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds": seconds,
        "peak_mb": max(turn["peak_kib"] for turn in turns) * 1024 / 1e6,
    }


def _cpu_times() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def _share_stolen(before: list[int], after: list[int]) -> float:
    spent = [late - early for early, late in zip(before, after, strict=True)]
    return spent[7] / max(sum(spent), 1)


def _cpu_name() -> str:
    match = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return match.group(1) if match else "unknown"


def _print(result: dict[str, Any]) -> None:
    head = f"{result['model']} seq {result['seq_len']} {result['method']}"
    print(f"\n{head}, {result['threads']} threads, {result['cpu']}", file=sys.stderr)
    for name in ("toolkit", "pytorch"):
        row = result[name]
        print(
            f"  {name:8} {row['seconds_median']:7.2f} s/step (best {row['seconds_min']:.2f})"
            f"  peak {row['peak_mb']:8.1f} MB",
            file=sys.stderr,
        )
    print(
        f"  time {result['ratio']:.2f} x PyTorch; steal {result['steal']:.1%}, "
        f"load average {result['load_average']:.1f} (over {result['threads']}: others compete)",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
