"""What the benchmarks share: bundles, runs of the trainer, a PyTorch to compare with, the machine.

Machines are shared and their speed drifts. Hence everything that is compared takes turns in one
run, medians and ratios are reported, and with them the time the hypervisor took (steal) and the
load. Peaks are the kernel's high-water mark (VmHWM) of the whole process.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
CACHE = ROOT / ".cache" / "bench"
REAL_WEIGHTS = "smollm2-135m"


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options every benchmark has."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--json", metavar="FILE", type=Path, help="write the results here")
    result.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    return result


@dataclass(frozen=True)
class Case:
    """A bundle and data for it."""

    bundle: Path
    data: Path

    @property
    def base_bytes(self) -> int:
        """Size of the frozen weights."""
        return (self.bundle / "base.ptd").stat().st_size


def case(
    model: str,
    seq_len: int = 256,
    lowering: str = "mesp",
    rank: int = 8,
    layers: int | None = None,
    lengths: Sequence[int] = (),
) -> Case:
    """Export a model, unless this source has already, and make random tokens for it.

    Args:
        model: "smollm2-135m" (the demo's weights) or a recipe, which gets random weights.
        seq_len: Tokens of a sequence.
        lowering: Lowering.
        rank: LoRA rank.
        layers: Depth instead of the recipe's; random weights.
        lengths: All lengths of the bundle, where it serves several.
    """
    depth = f"-{layers}" if layers else ""
    length = "all" if lengths else seq_len
    folder = CACHE / f"{model}{depth}-{length}-{lowering}-{rank}"
    bundle, data = folder / "bundle", folder / f"data-{seq_len}"
    stamp = folder / "made-by"
    if not stamp.is_file() or stamp.read_text() != _exporter():
        shutil.rmtree(folder, ignore_errors=True)
        _export(model, lengths or (seq_len,), lowering, rank, layers, bundle)
        _forget_pages(bundle)
        stamp.write_text(_exporter())
    if not (data / "data.json").is_file():
        words = ["--random", "16", "--seq-len", str(seq_len)]
        toolkit("data", *words, "--bundle", str(bundle), "-o", str(data))
    return Case(bundle, data / "train.ptd")


def _forget_pages(folder: Path) -> None:
    """Have the page cache read files anew.

    What was just written is there in larger pieces than what was read, and more of it is mapped at
    once: up to 2 MB of peak, which comes and goes with the cache.
    """
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _exporter() -> str:
    """Return a digest of the source that decides what is in a bundle."""
    digest = sha256()
    for folder in ("bundle", "families", "ops", "programs", "quantization", "sources"):
        for file in sorted((ROOT / "toolkit" / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _export(
    model: str,
    lengths: Sequence[int],
    lowering: str,
    rank: int,
    layers: int | None,
    bundle: Path,
) -> None:
    from toolkit.bundle.adapter import LoraSettings
    from toolkit.bundle.export import ExportSettings, export_bundle
    from toolkit.bundle.layout import parameter_shapes
    from toolkit.recipes import get_recipe
    from toolkit.sources import open_source
    from toolkit.sources.random import RandomSource

    print(f"exporting {bundle.parent.name} ...", file=sys.stderr)
    recipe = get_recipe(model)
    if model == REAL_WEIGHTS and not layers:
        from tools.fetch_demo_assets import MODEL

        source = open_source(str(MODEL))
    else:
        config = recipe.model_config()
        config.num_hidden_layers = layers or config.num_hidden_layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: config.num_hidden_layers]
        source = RandomSource(config, parameter_shapes(config), recipe.name, seed=0)
    lora = LoraSettings(rank, 2.0 * rank, tuple(recipe.targets))
    export_bundle(source, bundle, ExportSettings(lora, tuple(lengths), lowering))


def toolkit(*arguments: str, capture: bool = False) -> str:
    """Run a command of toolkit; return its standard output when it is captured."""
    command = [sys.executable, "-c", "from toolkit.cli.main import main; main()", *arguments]
    output = subprocess.PIPE if capture else sys.stderr
    done = subprocess.run(command, stdout=output, env=environment(), text=True)
    if done.returncode and not capture:
        raise SystemExit(f"error: toolkit {' '.join(arguments)} failed")
    return done.stdout or ""


def environment(**more: str) -> dict[str, str]:
    """Return the environment with this source tree's package and `more`."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@dataclass(frozen=True)
class Run:
    """A run of the trainer: records, peak of its whole process in MB, wall time in seconds."""

    records: list[dict[str, Any]]
    peak_mb: float
    wall: float

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of one type."""
        return [record for record in self.records if record["type"] == kind]

    @property
    def seconds(self) -> list[float]:
        """Seconds of the steps, without the first, which warms up."""
        return [step["seconds"] for step in self.of("step")[1:]]


def train(case: Case, steps: int, threads: int, *flags: str, wrapper: Sequence[str] = ()) -> Run:
    """Train some steps, the first of which warms up; `wrapper` starts the trainer."""
    from toolkit.runtime import native_directory

    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        run = Path(folder) / "run"
        command = [str(native_directory("trainer") / "trainer"), "train", "--out", str(run)]
        command += ["--bundle", str(case.bundle), "--data", str(case.data)]
        command += ["--steps", str(steps), "--threads", str(threads), "--lr", "1e-3", *flags]
        started = time.perf_counter()
        done = subprocess.run([*wrapper, *command], stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        if done.returncode:
            raise SystemExit("error: the trainer failed")
        lines = (run / "trace.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
    end = next(record for record in records if record["type"] == "end")
    return Run(records, end["peak"] * 1024 / 1e6, wall)


class PyTorch:
    """A process with torch, transformers and peft that takes training steps on demand.

    The same LoRA adapter, weights (dequantized) and rows; SGD, gradient checkpointing. All of it in
    `dtype`; oneDNN is held to AVX-512, without AMX, which few machines have.
    """

    def __init__(self, case: Case, threads: int, dtype: str = "float32") -> None:
        worker = Path(__file__).with_name("pytorch_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(worker), str(case.bundle), str(case.data), str(threads), dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Idle OpenMP threads would otherwise spin while our trainer is being measured.
            env=environment(
                OMP_NUM_THREADS=str(threads),
                OMP_WAIT_POLICY="passive",
                ONEDNN_MAX_CPU_ISA="AVX512_CORE_BF16",
            ),
        )
        self.peak_mb = 0.0
        self.run(1)

    def run(self, steps: int) -> list[float]:
        """Take steps; return the seconds of each."""
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("error: the PyTorch process ended")
        answer = json.loads(line)
        self.peak_mb = answer["peak_kib"] * 1024 / 1e6
        return answer["seconds"]

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def exactness(case: Case, samples: int = 1) -> dict[str, Any]:
    """Return how far this build's gradients are from PyTorch's, by `toolkit verify`."""
    arguments = ["verify", str(case.bundle), "--samples", str(samples), "--json"]
    report = json.loads(toolkit(*arguments, capture=True))
    errors = [tensor["relative_error"] for tensor in report["tensors"]]
    return {
        "passed": report["passed"],
        "worst": max(errors),
        "median": statistics.median(errors),
        "tensors": len(errors),
    }


class Machine:
    """What the machine is, and what others took from it since construction."""

    def __init__(self) -> None:
        self._before = self._cpu_times()

    def report(self) -> dict[str, Any]:
        """Return processor, instruction set, cores, load and steal."""
        spent = [b - a for a, b in zip(self._before, self._cpu_times(), strict=True)]
        name = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        return {
            "cpu": name.group(1) if name else "unknown",
            "isa": os.environ.get("TOOLKIT_ISA", "best of the processor"),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "steal": spent[7] / max(sum(spent), 1),
            "date": time.strftime("%Y-%m-%d"),
        }

    @staticmethod
    def _cpu_times() -> list[int]:
        return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in aligned columns on standard error."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    print(f"\n{title}", file=sys.stderr)
    for row in cells:
        first, *rest = zip(row, widths, strict=True)
        texts = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]
        print("  " + "  ".join(texts), file=sys.stderr)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2g}" if abs(value) < 0.01 and value else f"{value:.3g}"
    return str(value)


@dataclass(frozen=True)
class Bar:
    """A figure and the limit it is held against; `at_least` says from which side."""

    name: str
    value: float
    must: float
    aim: float
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Return "aim", "must" or "MISSED", the best that is met."""
        for word, limit in (("aim", self.aim), ("must", self.must)):
            if self.value >= limit if self.at_least else self.value <= limit:
                return word
        return "MISSED"


def finish(
    options: argparse.Namespace, machine: Machine, results: Any, bars: Sequence[Bar] = ()
) -> int:
    """Print the bars, write the JSON; return 1 if a bar was missed."""
    described = machine.report()
    if bars:
        rows = [(bar.name, bar.value, bar.must, bar.aim, bar.verdict) for bar in bars]
        print_table("bars", ("", "measured", "must", "aim", "met"), rows)
    print(f"\n{json.dumps(described)}", file=sys.stderr)
    report = {
        "machine": described,
        "results": results,
        "bars": [{**vars(bar), "verdict": bar.verdict} for bar in bars],
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(bar.verdict == "MISSED" for bar in bars))
