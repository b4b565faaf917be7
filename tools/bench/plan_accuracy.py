"""Predictions of `toolkit plan` against measurement, over many configurations.

    python tools/bench/plan_accuracy.py                    all 30; a quarter of an hour, alone
    python tools/bench/plan_accuracy.py --models smollm2-135m --lengths 64
    python tools/bench/plan_accuracy.py --ways     peaks of all ways to train; a quarter of an hour

Every configuration is a run of the local trainer on random weights. Memory is compared with the
kernel's high-water mark of the whole run. Time is compared with the median of the steps after the
first; the speed a prediction needs is measured before and after every run as `toolkit plan
--device local` does it, and the mean taken, since shared machines drift within minutes. Beside them
stands how much of the measured peak the engine's ledger accounts for. Exit code 1 when a prediction
is off by more than 8 % (memory) or 20 % (time), or the ledger explains less than 95 %.

--ways: Qwen2.5-0.5B at 256 tokens, checkpoints spilled, as a plan without a device predicts it. Any
two of method, optimizer, place of the state and lowering meet. The bar is 4 %.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
FOLDER = ROOT / ".cache" / "bench" / "plan"
MODELS = ("smollm2-135m", "smollm2-360m", "qwen2.5-0.5b")
LENGTHS = (64, 256, 512)
HEADER = (
    f"{'model':14} {'T':>4} {'lowering':8} {'optim.':6} {'states':6} {'seq':>3} "
    f"{'predicted':>10} {'measured':>10} {'error':>7} {'ledger':>7} "
    f"{'predicted':>10} {'measured':>10} {'error':>7}"
)
MEMORY_BAR, TIME_BAR, LEDGER_BAR, WAYS_BAR = 0.08, 0.20, 0.95, 0.04
# (lowering, optimizer, checkpoints, sequences) at each length: all values of each meet all lengths.
VARIANTS = {
    64: (
        ("mesp", "adamw", "ram", 1), ("mebp", "sgd", "spill", 2), ("mesp", "sgd", "ram", 4),
        ("mesp", "mlorc", "ram", 1),
    ),
    256: (("mesp", "sgd", "ram", 1), ("mebp", "adamw", "ram", 1), ("mesp", "adamw", "spill", 2)),
    512: (("mesp", "adamw", "spill", 1), ("mebp", "sgd", "ram", 1), ("mesp", "sgd", "auto", 1)),
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One configuration: bytes and seconds, predicted and measured."""

    model: str
    seq_len: int
    lowering: str
    optimizer: str
    checkpoints: str
    sequences: int
    peak: int
    predicted_peak: int
    seconds: float
    predicted_seconds: float
    explained: float

    @property
    def memory_error(self) -> float:
        return self.predicted_peak / self.peak - 1

    @property
    def time_error(self) -> float:
        return self.predicted_seconds / self.seconds - 1

    def __str__(self) -> str:
        return (
            f"{self.model:14} {self.seq_len:4} {self.lowering:8} {self.optimizer:6} "
            f"{self.checkpoints:6} {self.sequences:3} {self.predicted_peak / 1e6:7.1f} MB "
            f"{self.peak / 1e6:7.1f} MB {self.memory_error:+7.1%} {self.explained:7.1%} "
            f"{self.predicted_seconds:8.2f} s {self.seconds:8.2f} s {self.time_error:+7.1%}"
        )


def main() -> int:
    """Measure, print every configuration and the worst errors; return the exit code."""
    options = _options()
    if options.ways:
        return _print_ways(options)
    results: list[Result] = []
    print(HEADER)
    for name in options.models:
        results += _model(name, options)
    _print_errors(results)
    if options.json:
        rows = [vars(r) | {"memory_error": r.memory_error, "time_error": r.time_error}
                for r in results]  # fmt: skip
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    worst_memory = max(abs(r.memory_error) for r in results)
    worst_time = max(abs(r.time_error) for r in results)
    missed = worst_memory > MEMORY_BAR or min(r.explained for r in results) < LEDGER_BAR
    return int(missed or (worst_time > TIME_BAR and not options.memory_only))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS, help="recipes (%(default)s)")
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, choices=LENGTHS)
    parser.add_argument("--steps", type=int, default=3, help="of every run (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--memory-only", action="store_true", help="do not judge times")
    parser.add_argument("--ways", action="store_true", help="peaks of all ways to train instead")
    parser.add_argument("--only", nargs="+", default=[""], help="ways that contain one of these")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    return parser.parse_args()


def _model(name: str, options: argparse.Namespace) -> list[Result]:
    from toolkit.planning.model import open_model
    from toolkit.planning.predict import Planner

    results = []
    planners: dict[str, Any] = {}
    before = _machine(options.threads)
    for seq_len in options.lengths:
        for lowering, optimizer, place, sequences in VARIANTS[seq_len]:
            model = open_model(str(_bundle(name, lowering)))
            planner = planners.setdefault(name, Planner(model))
            run = _run(name, seq_len, lowering, optimizer, place, sequences, options)
            after = _machine(options.threads)
            settings = replace(
                model.settings,
                seq_len=seq_len,
                lowering=lowering,
                optimizer=optimizer,
                checkpoints=place,
                sequences=sequences,
            )
            predictions = [
                planner.predict(settings, replace(machine, kernels=run["kernels"]))
                for machine in (before, after)
            ]
            before = after
            results.append(
                Result(
                    name,
                    seq_len,
                    lowering,
                    optimizer,
                    place,
                    sequences,
                    peak=run["peak"],
                    predicted_peak=round(statistics.mean(p.peak for p in predictions)),
                    seconds=run["seconds"],
                    predicted_seconds=statistics.mean(p.seconds for p in predictions),
                    explained=run["explained"],
                )
            )
            print(results[-1], flush=True)
    return results


def _machine(threads: int) -> Any:
    from toolkit.device import open_device
    from toolkit.planning.measure import measure

    with open_device("local") as device:
        return measure(device, threads)


def _bundle(name: str, lowering: str) -> Path:
    path = FOLDER / f"{name}-{lowering}"
    if not (path / "manifest.json").is_file():
        lengths = itertools.chain(*(("--seq-len", str(length)) for length in LENGTHS))
        _toolkit(
            "export", "--random-weights", name, "--lowering", lowering, *lengths, "-o", str(path)
        )
        _forget(path / "base.ptd")
    return path


def _forget(path: Path) -> None:
    """Drop a file from the page cache.

    What was just written lies there in large folios, and Linux 6.18 maps a folio whole where one
    page of it is touched: up to 16 MB more than the same file takes once it was read from disk.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _data(name: str, seq_len: int, lowering: str) -> Path:
    path = FOLDER / f"data-{name}-{seq_len}.ptd"
    if not path.is_file():
        from toolkit.bundle.manifest import read_manifest
        from toolkit.data.dataset import random_rows, write_rows

        vocab = read_manifest(_bundle(name, lowering))["shape"]["vocab_size"]
        write_rows(path, random_rows(8, seq_len, vocab, 0))
    return path


def _toolkit(*arguments: str) -> None:
    command = [sys.executable, "-m", "toolkit.cli.main", *arguments]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=ROOT)


def _run(
    name: str,
    seq_len: int,
    lowering: str,
    optimizer: str,
    place: str,
    sequences: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Train a few steps and return what the trace says."""
    from toolkit.planning.scratch import Kernels
    from toolkit.runtime import native_directory
    from toolkit.trace.analysis import read_analysis

    bundle, data = _bundle(name, lowering), _data(name, seq_len, lowering)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        flags = {
            "bundle": bundle,
            "data": data,
            "out": f"{folder}/run",
            "steps": options.steps,
            "optimizer": optimizer,
            "checkpoints": place,
            "grad-accum": sequences,
            "threads": options.threads,
            "save-every": 0,
            "save-minutes": 0,
        }
        words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
        command = [str(native_directory("trainer") / "trainer"), "train", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        analysis = read_analysis(f"{folder}/run")
    seconds = analysis.trace.steps["seconds"][1:]
    device = analysis.trace.run.device
    return {
        "peak": analysis.peak.bytes,
        "explained": analysis.peak.explained or 0.0,
        "seconds": statistics.median(seconds.tolist()),
        "kernels": Kernels(device.isa, device.threads),
    }


def ways() -> list[dict[str, str]]:
    """Return what `--ways` trains: methods that go backward with every optimizer, the others, and
    with every lowering two of each, the state in both places."""
    from toolkit.choices import LOWERINGS
    from toolkit.settings.methods import METHODS
    from toolkit.settings.optimizers import OPTIMIZERS

    def of(method: str, optimizer: str, lowering: str, state: str) -> dict[str, str]:
        names = ("method", "optimizer", "lowering", "state")
        return dict(zip(names, (method, optimizer, lowering, state), strict=True))

    places = ("ram", "spill")
    found = [of("exact", name, "mesp", place) for name in OPTIMIZERS for place in places]
    for lowering in LOWERINGS[1:]:
        for i, name in enumerate(OPTIMIZERS):
            chosen = places if name in ("sgd", "adamw") else (places[i % 2],)
            found += [of("exact", name, lowering, place) for place in chosen]
    for method in METHODS.keys() - {"exact", "split"}:
        names = ["sgd"] if METHODS[method].updates else ["sgd", "adamw", "mlorc"]
        found += [of(method, name, "mesp", place) for name in names for place in places]
        others = zip(LOWERINGS[1:], (*places, *places), strict=True)
        found += [of(method, names[-1], lowering, place) for lowering, place in others]
    return sorted(found, key=lambda way: LOWERINGS.index(way["lowering"]))


def _print_ways(options: argparse.Namespace) -> int:
    from toolkit.planning.model import open_model
    from toolkit.planning.predict import Planner
    from toolkit.planning.scratch import Kernels
    from toolkit.planning.settings import Machine
    from toolkit.settings.methods import METHODS
    from tools.bench import harness

    rows = []
    for way in ways():
        name = " ".join(way.values())
        if not any(part in name for part in options.only):
            continue
        case = harness.case("qwen2.5-0.5b", lowering=way["lowering"])
        flags = {"method": way["method"], "state": way["state"]}
        if not METHODS[way["method"]].updates:
            flags["optimizer"] = way["optimizer"]
        if METHODS[way["method"]].backward:
            flags["checkpoints"] = "spill"
        words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
        run = harness.train(case, 2, options.threads, *words)
        [device] = {(r["device"]["isa"], r["device"]["threads"]) for r in run.of("run")}
        model = open_model(str(case.bundle))
        settings = replace(model.settings, **way, checkpoints="spill")
        plan = Planner(model).predict(settings, Machine(kernels=Kernels(*device)))
        row = {**way, "peak_mb": run.peak_mb, "plan_mb": plan.peak / 1e6}
        row |= {"error": row["plan_mb"] / row["peak_mb"] - 1, "phase": plan.highest.name}
        rows.append(row)
        print(
            f"{name:36} {row['plan_mb']:7.1f} MB {row['peak_mb']:7.1f} MB {row['error']:+7.1%} "
            f" in {row['phase']}",
            flush=True,
        )
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    worst = max(abs(row["error"]) for row in rows)
    print(f"{len(rows)} ways, largest error {worst:.1%} (bar {WAYS_BAR:.0%})")
    return int(worst > WAYS_BAR)


def _print_errors(results: list[Result]) -> None:
    for what, errors, bar in (
        ("memory", [r.memory_error for r in results], MEMORY_BAR),
        ("time", [r.time_error for r in results], TIME_BAR),
    ):
        sizes = sorted(map(abs, errors))
        print(
            f"{what}: {len(errors)} configurations, median error {sizes[len(sizes) // 2]:.1%}, "
            f"largest {sizes[-1]:.1%} (bar {bar:.0%})"
        )
    explained = min(r.explained for r in results)
    print(f"ledger: explains at least {explained:.1%} of every peak (bar {LEDGER_BAR:.0%})")


if __name__ == "__main__":
    sys.exit(main())
