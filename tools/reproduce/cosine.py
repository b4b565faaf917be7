"""The cosine of a MeZO estimate with the true gradient, against the number of directions.

MeSP's paper measured about 0.001. Of q directions in d dimensions theory expects sqrt(q / (q + d)).
The estimates are the engine's: a run of mezo over one row with a learning rate of 0 estimates the
same gradient along another direction in every step.
"""

import math
import shutil
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from toolkit.bundle.manifest import read_manifest
from toolkit.data.dataset import read_rows, write_rows
from toolkit.data.samples import Rows
from toolkit.replaying.estimates import read_estimates
from toolkit.replaying.normals import normals
from toolkit.replaying.replay import places
from toolkit.runtime import native_directory
from tools.bench import harness
from tools.reproduce import common


def main(words: list[str] | None = None) -> int:
    """Measure what is not known yet, print a table, draw."""
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="smollm2-135m", help="(%(default)s)")
    parser.add_argument("--seq-len", type=int, default=256, help="(%(default)s)")
    parser.add_argument("--directions", type=int, default=256, help="(%(default)s)")
    parser.add_argument("--zo-eps", type=float, default=1e-3, help="(%(default)s)")
    options = parser.parse_args(words)
    results = common.Results(options.output, "cosine")
    key = f"{options.model} {options.seq_len} tokens, {options.directions} directions"
    found = results.of(f"{key}, eps {options.zo_eps}", lambda: _measure(options))
    points = [
        (q, cosine, math.sqrt(q / (q + found["dimensions"])))
        for q, cosine in zip(found["queries"], found["cosines"], strict=True)
    ]
    harness.print_table("cosine with the gradient", ("directions", "measured", "theory"), points)
    _draw(points, found["layers"], results.picture)
    return 0


def _measure(options: Any) -> dict[str, Any]:
    case = harness.case(options.model, options.seq_len)
    folder = options.output / "cosine"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = Rows(*(array[:1] for array in astuple(read_rows(case.data))))
    tokenizer = read_manifest(case.bundle)["tokenizer"]
    write_rows(folder / "row.ptd", rows, tokenizer)
    common_words = ["--bundle", str(case.bundle), "--data", str(folder / "row.ptd")]
    common_words += ["--threads", str(options.threads)]
    _trainer("gradients", *common_words, "--samples", "0", "--out", str(folder / "exact"))
    words = ["--method", "mezo", "--zo-eps", str(options.zo_eps), "--lr", "0", "--trace", "steps"]
    words += ["--steps", str(options.directions), "--out", str(folder / "run")]
    _trainer("train", *common_words, *words)
    return _compare(folder)


def _trainer(*words: str) -> None:
    program = str(native_directory("trainer") / "trainer")
    subprocess.run([program, *words], check=True, stdout=subprocess.DEVNULL)


def _compare(folder: Path) -> dict[str, Any]:
    """Return the cosines of the mean of the first 1, 2, 4 ... estimates, and by layer of all."""
    from safetensors.numpy import load_file

    exact = load_file(folder / "exact")
    estimates = read_estimates(folder / "run")
    marks = [2**i for i in range(len(estimates.steps).bit_length())]
    products = dict.fromkeys(marks, 0.0)
    squares = dict.fromkeys(marks, 0.0)
    by_layer: dict[int, list[float]] = {}
    for name, place in places(exact).items():
        gradient = exact[name].astype(np.float64).reshape(-1)
        total = np.zeros_like(gradient)
        for estimate in estimates.steps[: marks[-1]]:
            [slope] = estimate.slopes
            z = normals(estimates.seed, place.stream(estimate.step, 0), gradient.size)
            total += slope * z
            if estimate.step in products:
                products[estimate.step] += float(total @ gradient)
                squares[estimate.step] += float(total @ total)
        sums = by_layer.setdefault(place.layer, [0.0, 0.0, 0.0])
        for i, value in enumerate((total @ gradient, total @ total, gradient @ gradient)):
            sums[i] += float(value)
    norm = math.sqrt(sum(sums[2] for sums in by_layer.values()))
    return {
        "dimensions": sum(tensor.size for tensor in exact.values()),
        "queries": marks,
        "cosines": [products[q] / (math.sqrt(squares[q]) * norm) for q in marks],
        "layers": [a / math.sqrt(b * c) for a, b, c in (by_layer[i] for i in sorted(by_layer))],
    }


def _draw(points: list[tuple[int, float, float]], layers: list[float], path: Path) -> None:
    figure, axes = common.axes(1, 2, (11, 4))
    against, by_layer = axes[0]
    queries, measured, theory = zip(*points, strict=True)
    against.plot(queries, measured, "o", label="measured")
    against.plot(queries, theory, "-", label="sqrt(q / (q + d))")
    against.set(xlabel="directions q", ylabel="cosine")
    against.set_xscale("log", base=2)
    against.legend()
    by_layer.bar(range(len(layers)), layers)
    by_layer.set(xlabel="layer", ylabel=f"cosine of {queries[-1]} directions")
    common.save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
