"""What the reproductions of learning share: real text and chats, runs with held-out losses, grids.

A run lies in the results' folder while it goes, and goes on from its saved state when its script
was stopped. Seconds are steps times what the fastest tenth of them took, without evaluations, so
that a run that had the processor to itself only at times tells what its steps cost.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from toolkit.runtime import native_directory
from toolkit.trace.reader import read_trace
from tools.bench import harness
from tools.fetch_demo_assets import CHATS
from tools.reproduce import common

CORPORA = ("text", "chats")


def parser(description: str) -> argparse.ArgumentParser:
    """Return `common.parser` with the options of models and data."""
    result = common.parser(description)
    result.add_argument("--model", default=harness.REAL_WEIGHTS, help="(%(default)s)")
    result.add_argument("--corpora", nargs="*", default=CORPORA, choices=CORPORA)
    result.add_argument("--chats", type=Path, default=CHATS, help="JSON Lines (%(default)s)")
    result.add_argument("--characters", type=int, default=400_000, help="of a corpus (%(default)s)")
    result.add_argument("--seq-len", type=int, default=256, help="(%(default)s)")
    result.add_argument(
        "--held-out", type=int, default=16, help="sequences a loss is of (%(default)s)"
    )
    return result


@dataclass(frozen=True)
class Corpus:
    """A bundle, tokens to train on and tokens that are held out."""

    name: str
    bundle: Path
    train: Path
    held_out: Path


@dataclass(frozen=True)
class Way:
    """A way to train: its name, and the trainer's flags without the learning rate.

    `directions` are those that an estimating step goes along, two forward passes each.
    """

    name: str
    flags: tuple[str, ...]
    rates: tuple[float, ...]
    directions: int = 1


def corpus(options: argparse.Namespace, name: str) -> Corpus:
    """Return the documentation of Python's language ("text") or people's chats, as tokens."""
    case = harness.case(options.model, options.seq_len)
    kind = f"{name}-{options.model}-{options.seq_len}-{options.characters}"
    folder = options.output / "data" / kind
    if not (folder / "data.json").is_file():
        source = options.output / f"{kind}.{'txt' if name == 'text' else 'jsonl'}"
        options.output.mkdir(parents=True, exist_ok=True)
        source.write_text(_content(options, name), encoding="utf-8")
        words = ["--bundle", str(case.bundle), "--seq-len", str(options.seq_len)]
        harness.toolkit("data", str(source), *words, "--validation", "0.1", "-o", str(folder))
        source.unlink()
    return Corpus(name, case.bundle, folder / "train.ptd", folder / "validation.ptd")


def _content(options: argparse.Namespace, name: str) -> str:
    if name == "text":
        from pydoc_data.topics import topics

        return "\n\n".join(topics[topic] for topic in sorted(topics))[: options.characters]
    kept, size = [], 0
    for line in options.chats.read_text(encoding="utf-8").splitlines(keepends=True):
        size += len(line)
        if size > options.characters:
            break
        kept.append(line)
    return "".join(kept)


def learn(
    options: argparse.Namespace,
    data: Corpus,
    flags: Sequence[str],
    steps: int,
    every: int,
    target: float | None = None,
) -> dict[str, Any]:
    """Train, until a held-out loss is at most `target` if there is one, and return what came of it.

    Returns:
        steps and losses, held out, before the first step and after every `every`; seconds that the
        steps until then take; failed: why the run ended before its last step, or None.
    """
    words = ["--bundle", str(data.bundle), "--data", str(data.train), *flags]
    words += ["--eval-data", str(data.held_out), "--eval-every", str(every)]
    words += ["--max-samples", str(options.held_out), "--steps", str(steps)]
    digest = hashlib.sha256(json.dumps([words, _trainer_digest()]).encode()).hexdigest()[:16]
    folder = options.output / "runs" / digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    program = str(native_directory("trainer") / "trainer")
    command = [program, "train", *words, "--threads", str(options.threads), "--resume"]
    command += ["--trace", "steps", "--out", str(folder)]
    while True:
        until = steps if target is None else min(_losses(folder)[-1][0] + every, steps)
        session = [*command, "--until", str(until)]
        done = subprocess.run(session, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode and "not finite" not in done.stderr:
            raise SystemExit(done.stderr)
        if done.returncode or until == steps or _reached(folder, target):
            break
    failed = done.stderr.strip() if done.returncode else None
    found = _found(folder, failed, steps, target)
    shutil.rmtree(folder)
    return found


def _losses(folder: Path) -> list[tuple[int, float | None]]:
    """Return step and loss of a run's evaluations; step 0 alone before there is any."""
    if not (folder / "trace.jsonl").is_file():
        return [(0, None)]
    return [(row.step, row.loss) for row in read_trace(folder).evaluations] or [(0, None)]


def _reached(folder: Path, target: float | None) -> bool:
    losses = [loss for _, loss in _losses(folder) if loss is not None]
    return target is not None and any(loss <= target for loss in losses)


def _trainer_digest() -> str:
    """Return what tells builds of the trainer apart."""
    path = native_directory("trainer") / "trainer"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _found(
    folder: Path, failed: str | None, steps: int, target: float | None = None
) -> dict[str, Any]:
    trace = read_trace(folder)
    ended = failed is not None or _reached(folder, target)
    if not ended and all(row.step < steps for row in trace.evaluations):
        raise SystemExit("error: the run was stopped before its end. Start again to go on with it")
    if failed is None and any(row.loss is None for row in trace.evaluations):
        failed = "the held-out loss is not finite"
    taken = sorted(trace.steps["seconds"].tolist())
    seconds = statistics.mean(taken[: -(-len(taken) // 10)]) if taken else 0.0
    losses = {row.step: row.loss for row in trace.evaluations if row.loss is not None}
    marks = sorted(losses)
    return {
        "steps": marks,
        "losses": [losses[step] for step in marks],
        "seconds": [step * seconds for step in marks],
        "failed": failed,
    }


def grid(
    results: common.Results,
    options: argparse.Namespace,
    data: Corpus,
    way: Way,
    steps: int,
) -> list[tuple[float, float]]:
    """Return (rate, held-out loss after so many steps) of every rate; inf where a run failed."""
    found = []
    for rate in way.rates:
        run = results.of(
            f"{_what(options, data, way)}, rate {rate:g}, {steps} steps of the grid",
            lambda rate=rate: learn(
                options, data, (*way.flags, "--lr", str(rate)), steps, every=steps
            ),
        )
        found.append((rate, float("inf") if run["failed"] else run["losses"][-1]))
    return found


def curve(
    results: common.Results,
    options: argparse.Namespace,
    data: Corpus,
    way: Way,
    rate: float,
    steps: int,
    every: int,
    target: float | None = None,
) -> dict[str, Any]:
    """Return what `learn` finds at one rate."""
    most = f"{steps} steps" if target is None else f"at most {steps} steps to {target:.4f}"
    return results.of(
        f"{_what(options, data, way)}, rate {rate:g}, {most}, every {every}",
        lambda: learn(options, data, (*way.flags, "--lr", str(rate)), steps, every, target),
    )


def ranked(found: Iterable[tuple[float, float]]) -> list[float]:
    """Return the rates by loss, the lowest first, without those whose runs failed.

    Raises:
        SystemExit: No run of the grid came to its end.
    """
    rates = [rate for loss, rate in sorted((loss, rate) for rate, loss in found) if isfinite(loss)]
    if not rates:
        raise SystemExit("error: the losses of all learning rates became infinite. Give lower ones")
    return rates


def best(found: Iterable[tuple[float, float]]) -> float:
    """Return the rate of the lowest loss; raises what `ranked` does."""
    return ranked(found)[0]


def with_rates(way: Way, rates: Sequence[float] | None) -> Way:
    """Return a way with the rates of the command line, where there are any."""
    return replace(way, rates=tuple(rates)) if rates else way


def print_grids(title: str, grids: dict[str, list[tuple[float, float]]]) -> None:
    """Print the losses of every rate."""
    rows = [
        (name, ", ".join(f"{rate:g}: {loss:.4f}" for rate, loss in found))
        for name, found in grids.items()
    ]
    harness.print_table(title, ("", "rate: held-out loss"), rows)


def _what(options: argparse.Namespace, data: Corpus, way: Way) -> str:
    return (
        f"{data.name}, {options.model}, {options.seq_len} tokens, {options.characters} characters, "
        f"{options.held_out} held out, {' '.join(way.flags)}"
    )
