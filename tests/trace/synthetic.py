"""Realistic synthetic traces: a small model streamed block by block, seeded.

`python -m tests.trace.synthetic OUT.jsonl --steps 5000` writes one to look at or to time.
"""

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, sin
from pathlib import Path

MILLISECOND = 1_000_000
FLOOR_KIB = 4300
# Calls and share of the phase's time, by operator.
OPERATORS = {
    "embed": {"quantized_embedding": (1, 0.7)},
    "forward": {
        "rms_norm": (2, 0.02),
        "lora_linear": (4, 0.32),
        "rope": (2, 0.01),
        "attention": (1, 0.12),
        "swiglu_mlp": (1, 0.44),
        "add": (2, 0.01),
    },
    "head": {"rms_norm": (1, 0.002), "linear_cross_entropy": (1, 0.97)},
    "backward": {
        "rms_norm": (2, 0.01),
        "lora_linear": (3, 0.1),
        "attention": (1, 0.05),
        "add": (3, 0.006),
        "lora_linear_backward": (4, 0.27),
        "attention_backward": (1, 0.11),
        "swiglu_mlp_backward": (1, 0.36),
        "rms_norm_backward": (2, 0.015),
        "rope": (4, 0.009),
    },
}


@dataclass
class Recipe:
    """What kind of run to make up."""

    steps: int = 50
    layers: int = 30
    seq_len: int = 256
    rank: int = 8
    seed: int = 0
    detail: str = "full"
    operators: bool = True
    model: str = "SmolLM2-135M-Instruct"
    lowering: str = "mesp"
    phone: bool = False
    hwm_reset: bool = True
    swap: bool = False
    cold_cache: bool = False
    throttle: bool = False
    resumed_from: int | None = None
    status: str | None = "completed"


def records(recipe: Recipe) -> Iterator[dict]:
    """Yield the records of one run in the order the trainer writes them."""
    return _Writer(recipe).records()


def to_line(record: dict) -> bytes:
    """Return a record as one line of the file."""
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def write_trace(path: Path, recipe: Recipe | None = None) -> Path:
    """Write the trace of one run and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(to_line(record) for record in records(recipe or Recipe()))
    return path


class _Writer:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.random = random.Random(recipe.seed)
        self.t = 0
        self.running_peak = 0
        self.step_peak = 0
        self.next_sample = 0
        self.celsius = 31.0
        self.sizes = {
            "base": 2_240_000,
            "adapters": 9_800_000,
            "optimizer": 19_600_000,
            "gradients": 330_000,
            "checkpoints": recipe.seq_len * 576 * 4 * (recipe.layers + 1),
            "arena": recipe.seq_len * 576 * 4 * 3,
            "scratch": 3_400_000,
            "runtime": 4_400_000,
        }

    def records(self) -> Iterator[dict]:
        recipe = self.recipe
        first = (recipe.resumed_from or 0) + 1
        yield self.run()
        yield from self.phase("load", 0, None, 12.0, base=200_000, checkpoints=0, gradients=0)
        for step in range(first, first + recipe.steps):
            yield from self.step(step)
            if step % 25 == 0:
                yield from self.save(step)
                yield {"type": "evaluation", "step": step, "tokens": 4096, **self.held_out(step)}
        if recipe.status:
            yield {
                "type": "end",
                "t": self.t,
                "status": recipe.status,
                "steps": first + recipe.steps - 1,
                "peak": self.running_peak,
                "seconds": round(self.t / 1e9, 6),
            }

    def run(self) -> dict:
        recipe = self.recipe
        device = {
            "abi": "arm64-v8a" if recipe.phone else "x86_64",
            "isa": "neon" if recipe.phone else "avx2",
            "threads": 4 if recipe.phone else 2,
            "cores": 8 if recipe.phone else 2,
            "page_size": 4096,
            "kernel": "6.1.0",
            "model": "Pixel 8" if recipe.phone else "AMD EPYC",
            "memory_total_kib": 8_000_000,
            "memory_available_kib": 5_200_000,
            "hwm_reset": recipe.hwm_reset,
        }
        return {
            "type": "run",
            "version": 1,
            "toolkit": "0.1.0",
            "model": recipe.model,
            "lowering": recipe.lowering,
            "resumed_from": recipe.resumed_from,
            "time_unix": 1_763_800_000 + 3600 * bool(recipe.resumed_from),
            "settings": {
                "bundle": "/data/local/tmp/toolkit/bundles/smollm2",
                "steps": recipe.steps,
                "lr": 1e-4,
                "optimizer": "adamw",
                "batch_size": 1,
                "grad_accum": 4,
                "schedule": "cosine",
                "warmup_steps": 5,
                "threads": 2,
                "checkpoints": "ram",
                "trace": recipe.detail,
            },
            "bundle": {
                "layers": recipe.layers,
                "hidden_size": 576,
                "vocab_size": 49152,
                "seq_len": recipe.seq_len,
                "rank": recipe.rank,
                "alpha": 16.0,
                "base_bytes": 97_000_000,
                "adapter_parameters": 2_442_240,
            },
            "device": device,
        }

    def step(self, step: int) -> Iterator[dict]:
        recipe = self.recipe
        begin = self.t
        self.step_peak = 0
        yield {"type": "begin", "phase": "step", "step": step, "layer": None, "t": self.t}
        slow = 1.0 + (0.5 * step / recipe.steps if recipe.throttle else 0.0)
        size = self.sizes
        yield from self.phase("embed", step, None, 0.8 * slow, checkpoints=0, gradients=0)
        for layer in range(recipe.layers):
            kept = size["checkpoints"] * (layer + 1) // (recipe.layers + 1)
            yield from self.phase(
                "forward", step, layer, 7.0 * slow, checkpoints=kept, gradients=0, scratch=900_000
            )
        yield from self.phase("head", step, None, 45.0 * slow, base=9_000_000, scratch=2_000_000)
        for layer in reversed(range(recipe.layers)):
            kept = size["checkpoints"] * (layer + 1) // (recipe.layers + 1)
            yield from self.phase("backward", step, layer, 17.0 * slow, checkpoints=kept)
        yield from self.phase("optimizer", step, None, 2.5 * slow, base=100_000, checkpoints=0)
        seconds = (self.t - begin) / 1e9
        yield {
            "type": "step",
            "step": step,
            "t": self.t,
            "seconds": round(seconds, 6),
            "loss": round(2.1 + 1.6 * exp(-step / 60) + self.random.gauss(0, 0.06), 6),
            "lr": 1e-4 * min(1.0, step / 5) * (0.55 + 0.45 * sin(1.57 + 3.1 * step / recipe.steps)),
            "tokens": recipe.seq_len * 4,
            "grad_norm": round(abs(self.random.gauss(1.2, 0.3)), 6),
            "peak": self.step_peak,
            "samples": [step * 4 + i for i in range(4)],
            "written_bytes": 0,
        }

    def save(self, step: int) -> Iterator[dict]:
        yield from self.phase("save", step, None, 20.0, written=29_400_000, base=0, checkpoints=0)
        yield {"type": "event", "t": self.t, "event": "saved", "detail": f"step {step}"}
        if step == 25:
            names = ["libexecutorch.so", "base.ptd", "[heap]", "[anon]", "libc.so.6", "[stack]"]
            entries = [
                {"name": name, "rss": 9000 - 1400 * i, "pss": 8000 - 1300 * i, "anonymous": 100 * i}
                for i, name in enumerate(names)
            ]
            yield {
                "type": "smaps",
                "step": step,
                "phase": "save",
                "layer": None,
                "entries": entries,
            }

    def held_out(self, step: int) -> dict:
        loss = 2.25 + 1.5 * exp(-step / 60)
        return {"loss": loss, "perplexity": exp(loss)}

    def phase(
        self, phase: str, step: int, layer: int | None, ms: float, written: int = 0, **sizes: int
    ) -> Iterator[dict]:
        recipe = self.recipe
        begin = self.t
        self.t += int(ms * MILLISECOND * max(0.7, self.random.gauss(1, 0.06)))
        record = self.phase_record(phase, step, layer, begin, written, sizes)
        if recipe.detail == "full":
            yield record
        self.t += 20_000
        while self.t >= self.next_sample:
            yield self.sample(step)
            self.next_sample += 500 * MILLISECOND

    def phase_record(self, phase, step, layer, begin, written, sizes) -> dict:
        recipe = self.recipe
        ledger = {**self.sizes, **sizes}
        total = sum(ledger.values()) // 1024
        hwm = total + 900 + self.random.randrange(700)
        self.step_peak = max(self.step_peak, hwm)
        self.running_peak = max(self.running_peak, hwm)
        cold = recipe.cold_cache or step <= 1
        return {
            "type": "phase",
            "phase": phase,
            "step": step,
            "layer": layer,
            "begin": begin,
            "end": self.t,
            "mem": {
                "hwm": hwm if recipe.hwm_reset else self.running_peak,
                **self.memory(int(total * 0.96)),
            },
            "io": {
                "major_faults": self.random.randrange(20, 60) if cold else 0,
                "minor_faults": self.random.randrange(200, 900),
                "read_bytes": ledger["base"] if cold else 0,
                "written_bytes": written,
            },
            "ledger": ledger,
            **self.operators(phase, self.t - begin),
        }

    def operators(self, phase: str, ns: int) -> dict:
        if not self.recipe.operators or phase not in OPERATORS:
            return {}
        times = {
            name: {"calls": calls, "ns": int(ns * share)}
            for name, (calls, share) in OPERATORS[phase].items()
        }
        return {"operators": times}

    def memory(self, rss: int) -> dict:
        file = max(FLOOR_KIB, rss // 5)
        return {
            "rss_anon": rss - file,
            "rss_file": file,
            "rss_shmem": 0,
            "swap": 2048 if self.recipe.swap else 0,
        }

    def sample(self, step: int) -> dict:
        rss = int(self.running_peak * self.random.uniform(0.55, 0.93)) or FLOOR_KIB
        record = {
            "type": "sample",
            "t": self.next_sample,
            "mem": {"hwm": self.running_peak, **self.memory(rss)},
            "pss": rss - 1200,
        }
        if self.recipe.phone:
            heat = 14.0 if self.recipe.throttle else 5.0
            self.celsius += (31 + heat - self.celsius) * 0.02
            level = 88.0 - 4.0 * step / self.recipe.steps
            battery = {"level": level, "temperature": round(self.celsius - 2, 1), "charging": False}
            zones = {"cpu-0-0": self.celsius + self.random.random(), "skin": self.celsius - 4}
            record["battery"] = battery
            record["thermal"] = [
                {"zone": zone, "celsius": round(value, 1)} for zone, value in zones.items()
            ]
        return record


def main() -> None:
    """Write one trace from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    for name in ("steps", "layers", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe, name))
    parser.add_argument("--detail", default="full")
    for name in ("phone", "swap", "cold_cache", "throttle"):
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true")
    options = vars(parser.parse_args())
    write_trace(options.pop("path"), Recipe(**options))


if __name__ == "__main__":
    main()
