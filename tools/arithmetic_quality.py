"""What an arithmetic does to gradients, and to a loss curve, of a bundle on real data.

    .venv/bin/python tools/arithmetic_quality.py BUNDLE DATA              # gradients
    .venv/bin/python tools/arithmetic_quality.py BUNDLE DATA --steps 300  # and 300 steps of adamw

BUNDLE is a folder of `toolkit export`, DATA one of `toolkit data` for it. Gradients of one step
with a perturbed adapter are compared with PyTorch's in float64, tensor by tensor: the worst and the
median distance over the tensor's norm, and one less the smallest cosine. Two trainings of the same
seed then differ in arithmetic only: the largest difference of their losses, and of the held-out
losses at the end where DATA has such rows. Exit code 1 where fixed16 is beyond its bars.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import load_file

from toolkit.bundle.adapter import write_peft_adapter
from toolkit.bundle.bundle import Bundle
from toolkit.choices import ARITHMETICS
from toolkit.data.dataset import first_rows, read_rows
from toolkit.lora import LoraSettings
from toolkit.oracle.gradients import compare, step_gradients
from toolkit.oracle.model import build_exact_model
from toolkit.oracle.verification import write_perturbed_adapter
from toolkit.runtime import native_directory

WORST, MEDIAN, COSINE = 3e-3, 1e-3, 1e-6
"""Bars of gradients in fixed16."""
CURVE, HELD_OUT = 5e-3, 2e-3
"""Bars of losses over a training in fixed16."""


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--samples", type=int, default=2, help="of a step (%(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="of the trainings; 0: none")
    parser.add_argument("--lr", default="1e-3", help="of the trainings (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good = _gradients(options, Path(folder))
        if options.steps:
            good = _curves(options, Path(folder)) and good
    return 0 if good else 1


def _trainer(options: argparse.Namespace, command: str, data: str, *words: str) -> str:
    files = ["--bundle", str(options.bundle), "--data", str(options.data / data)]
    line = [str(native_directory("trainer") / "trainer"), command, *files, *words]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


def _gradients(options: argparse.Namespace, folder: Path) -> bool:
    bundle, adapter = Bundle.open(options.bundle), folder / "adapter.ptd"
    write_perturbed_adapter(bundle, adapter, seed=0)
    indices = list(range(options.samples))
    rows = first_rows(read_rows(options.data / "train.ptd"), options.samples)
    exact = step_gradients(build_exact_model(bundle, adapter), rows, indices).tensors
    good = True
    for arithmetic in ARITHMETICS:
        out = folder / f"{arithmetic}.safetensors"
        words = ["--adapter", str(adapter), "--samples", ",".join(map(str, indices))]
        words += ["--arithmetic", arithmetic, "--out", str(out)]
        _trainer(options, "gradients", "train.ptd", *words)
        actual = load_file(out)
        errors = [error.relative for error in compare(actual, exact)]
        worst, median = errors[0], statistics.median(errors)
        cosine = max(1 - _cosine(actual[name], exact[name]) for name in exact)
        print(
            f"gradients in {arithmetic}: worst {worst:.1e}, median {median:.1e}, "
            f"1 - cosine {cosine:.0e} of {len(errors)} tensors"
        )
        if arithmetic == "fixed16":
            good = worst <= WORST and median <= MEDIAN and cosine <= COSINE
    return good


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


def _trained(bundle: Path, run: Path) -> Path:
    """Return the adapter that a run left, as the trainer reads it."""
    opened, path = Bundle.open(bundle), run / "adapter.ptd"
    lora = LoraSettings.from_json(opened.manifest["lora"])
    write_peft_adapter(run, opened.adapter.specs(), lora, path)
    return path


def _curves(options: argparse.Namespace, folder: Path) -> bool:
    losses: dict[str, list[float]] = {}
    held_out: dict[str, float] = {}
    validation = (options.data / "validation.ptd").is_file()
    for arithmetic in ARITHMETICS:
        run = folder / f"run-{arithmetic}"
        words = ["--arithmetic", arithmetic, "--steps", str(options.steps), "--lr", options.lr]
        _trainer(options, "train", "train.ptd", *words, "--trace", "steps", "--out", str(run))
        lines = map(json.loads, (run / "trace.jsonl").read_text().splitlines())
        losses[arithmetic] = [line["loss"] for line in lines if line["type"] == "step"]
        if validation:
            # Both adapters are judged in the same arithmetic.
            words = ["--adapter", str(_trained(options.bundle, run))]
            last = _trainer(options, "evaluate", "validation.ptd", *words).splitlines()[-1]
            held_out[arithmetic] = json.loads(last)["loss"]
    first, second = (losses[arithmetic] for arithmetic in ARITHMETICS)
    curve = max(abs(a - b) for a, b in zip(first, second, strict=True))
    print(f"losses of {options.steps} steps: at most {curve:.1e} apart, the last {first[-1]:.4f}")
    if not validation:
        return curve <= CURVE
    apart = abs(held_out["fixed16"] - held_out["float32"])
    print(f"held-out loss {held_out['float32']:.4f}, {apart:.1e} apart")
    return curve <= CURVE and apart <= HELD_OUT


if __name__ == "__main__":
    sys.exit(main())
