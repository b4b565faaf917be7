"""Measure a device's speed and floor in a few seconds, with a small model of our own.

Runs of a few steps, with short and with long sequences: long ones tell the rate of products,
short ones that of unpacking weights. The model is made once and kept in the user's cache.
"""

import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import BUNDLE_FORMAT_VERSION, __version__
from toolkit.choices import ARITHMETICS
from toolkit.device import Device
from toolkit.device.commands import (
    fetch_file,
    run_trainer,
    scratch_folder,
    send_file,
    send_runtime,
)
from toolkit.device.contents import checked_files
from toolkit.device.transfer import Progress, push_folder
from toolkit.errors import ToolkitError
from toolkit.files import cache_root
from toolkit.planning.cost import Work, work_of
from toolkit.planning.measured import remember
from toolkit.planning.scratch import Kernels
from toolkit.planning.settings import Machine, Settings
from toolkit.planning.speed import PHASES, fit_speed
from toolkit.planning.tracing import trace_programs
from toolkit.trace.reader import read_trace
from toolkit.trace.schema import CATEGORIES
from toolkit.trace.schema import PHASES as TRACE_PHASES
from toolkit.trace.trace import Trace
from toolkit.trace.units import KIB

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LENGTHS = (32, 128, 512)
_STEPS = {32: 10, 128: 5, 512: 3}
_SHAPE: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "vocab_size": 8192,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
_METHODS = {"forward": "block_forward", "head": "head_backward", "backward": "block_backward"}


def measure(
    device: Device,
    threads: int = 0,
    status: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda name, done, total: None,
    arithmetic: str = ARITHMETICS[0],
) -> Machine:
    """Return what a device can do: speed, floor, free memory. Takes about five seconds there.

    It is remembered, for the time that later runs will take.

    Args:
        device: Connected.
        threads: Of the trainer; 0 leaves their number to the device.
        status: Told what is going on.
        progress: Told about bytes sent.
        arithmetic: Of the products that are timed.

    Raises:
        ToolkitError: The device or its trainer fails.
    """
    status("making the model to measure with")
    bundle = calibration_bundle()
    runtime = send_runtime(device, progress)
    traces = {}
    with scratch_folder(device) as folder, tempfile.TemporaryDirectory() as temporary:
        remote = f"{folder}/bundle"
        push_folder(device, checked_files(bundle, "bundle"), remote, progress=progress)
        status(f"measuring {device.spec}")
        for length in LENGTHS:
            data, run = f"{folder}/{length}.ptd", f"{folder}/run{length}"
            send_file(device, _rows(Path(temporary), length), data)
            flags: dict[str, str | int] = {
                "bundle": remote,
                "data": data,
                "out": run,
                "steps": _STEPS[length],
            }
            flags["threads"] = threads
            words = [word for name, value in flags.items() for word in (f"--{name}", value)]
            words += ["--trace", "full", "--arithmetic", arithmetic]
            for _ in run_trainer(device, runtime, "train", *words, scratch=folder):
                pass
            local = Path(temporary) / f"{length}.jsonl"
            fetch_file(device, f"{run}/trace.jsonl", local)
            traces[length] = read_trace(local)
    machine = machine_of(traces, name=device.info().model or device.spec)
    remember(device, threads, machine)
    return machine


def machine_of(traces: dict[int, Trace], name: str) -> Machine:
    """Return the machine that these calibration runs, by length, tell of.

    Raises:
        ToolkitError: The traces hold no phases.
    """
    timed = [row for length, trace in traces.items() for row in _timed(trace, length)]
    if not timed:
        raise ToolkitError("the device's traces hold no timed phases", "Deploy the runtime again")
    last = traces[LENGTHS[-1]]
    device = last.run.device
    available = device.memory_available_kib
    return Machine(
        name=name,
        kernels=Kernels(
            device.isa or "neon",
            device.threads or 4,
            str(last.run.settings.get("arithmetic", ARITHMETICS[0])),
        ),
        runtime_bytes=_floor(last),
        available=None if available is None else available * KIB,
        speed=fit_speed(timed),
        measured=True,
    )


def calibration_bundle() -> Path:
    """Return the small model's bundle, made when it is not there or not whole."""
    folder = cache_root()
    path = folder / f"calibration-{__version__}-{BUNDLE_FORMAT_VERSION}-{_programs_digest()}"
    if not _is_whole(path):
        shutil.rmtree(path, ignore_errors=True)
        from toolkit.bundle.export import ExportSettings, export_bundle
        from toolkit.bundle.layout import parameter_shapes
        from toolkit.sources.random import RandomSource

        config, settings = _config(), Settings()
        folder.mkdir(parents=True, exist_ok=True)
        source = RandomSource(config, parameter_shapes(config), "calibration", 0)
        export_bundle(source, path, ExportSettings(lora=settings.lora, seq_lens=LENGTHS))
    return path


def _is_whole(bundle: Path) -> bool:
    try:
        checked_files(bundle, "bundle")
    except ToolkitError:  # another build made it, or a disk lost some of it
        return False
    return True


def _programs_digest() -> str:
    """Return what tells bundles apart whose programs a runtime of the same version may not know."""
    from toolkit.ops import OPERATORS

    calls = sorted((name, op.arguments, op.outputs) for name, op in OPERATORS.items())
    return sha256(repr((calls, _SHAPE, LENGTHS)).encode()).hexdigest()[:8]


def _config() -> "PretrainedConfig":
    from transformers import AutoConfig

    config: PretrainedConfig = AutoConfig.for_model("llama", **_SHAPE)
    return config


def _rows(folder: Path, length: int) -> Path:
    from toolkit.data.dataset import random_rows, write_rows

    path = folder / f"{length}.ptd"
    write_rows(path, random_rows(4, length, _SHAPE["vocab_size"], 0))
    return path


def _timed(trace: Trace, length: int) -> list[tuple[str, Work, float]]:
    """Return work and median time of every kind of phase after the first step."""
    works = _works(length, tuple(_SHAPE.items()))
    phases = trace.phases
    seconds = (phases["end"] - phases["begin"]) / 1e9
    rows = []
    for phase in PHASES:
        mine = (phases["phase"] == TRACE_PHASES.index(phase)) & (phases["step"] > 1)
        if mine.any():
            rows.append((phase, works[phase], float(np.median(seconds[mine]))))
    return rows


@cache
def _works(length: int, _shape: tuple[tuple[str, Any], ...]) -> dict[str, Work]:
    """Return the work of every kind of phase of the small model, of the shape in force."""
    programs = trace_programs(_config(), Settings(seq_len=length))
    return {phase: work_of(programs[_METHODS[phase]].operations) for phase in PHASES}


def _floor(trace: Trace) -> int:
    """Return what the process takes beside what its ledger counts, when no weights are mapped.

    At least what the engine itself measured for its runtime: where a system drops code that has not
    run for a while, or a buffer is not resident to its last page, the difference falls short of it.
    """
    phases = trace.phases
    rows = phases["phase"] == TRACE_PHASES.index("optimizer")
    own = [name for name in CATEGORIES if name not in ("base", "runtime")]
    counted = sum(phases[f"ledger_{name}"][rows] for name in own)
    if not rows.any():
        raise ToolkitError("the device's traces hold no phases", "Deploy the runtime again")
    rest = np.median(phases["hwm"][rows] * KIB - counted)
    return max(int(rest), int(np.median(phases["ledger_runtime"][rows])), 1_000_000)
