"""Run the trainer's computing commands on a device with files made here."""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import write_flat_tensor
from toolkit.choices import ARITHMETICS
from toolkit.device import Device
from toolkit.device.commands import fetch_file, run_trainer, scratch_folder, send_file
from toolkit.device.runtime import Runtime
from toolkit.device.transfer import Progress
from toolkit.errors import ToolkitError
from toolkit.oracle.gradients import Gradients


@dataclass(frozen=True)
class Target:
    """A device with a trainer and a bundle on it; `threads` 0 leaves their number to the device."""

    device: Device
    runtime: Runtime
    bundle: str
    threads: int = 0
    arithmetic: str = ARITHMETICS[0]


@contextmanager
def sent_inputs(
    target: Target,
    data: Path,
    adapter: Path,
    progress: Progress = lambda name, done, total: None,
) -> Iterator[str]:
    """Send a token .ptd and an adapter .ptd; yield the folder, which is removed at the end."""
    with scratch_folder(target.device) as folder:
        send_file(target.device, data, f"{folder}/data.ptd", progress)
        send_file(target.device, adapter, f"{folder}/adapter.ptd", progress)
        yield folder


def device_gradients(target: Target, folder: str, indices: Sequence[int]) -> Gradients:
    """Return loss and gradients of one step as the device computes them.

    Args:
        folder: From `sent_inputs`.
        indices: The rows of the step.

    Raises:
        ToolkitError: The trainer failed or its output is not what it should be.
    """
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "gradients.safetensors"
        arguments = _arguments(target, folder)
        arguments += ["--samples", ",".join(map(str, indices))]
        arguments += ["--out", f"{folder}/{output.name}"]
        running = run_trainer(
            target.device, target.runtime, "gradients", *arguments, scratch=folder
        )
        records = list(running)
        loss, tokens = _number(records, "loss"), int(_number(records, "tokens"))
        fetch_file(target.device, f"{folder}/{output.name}", output)
        return Gradients(loss, tokens, load_file(output))


def device_evaluation(
    target: Target,
    folder: str,
    max_samples: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Return loss, perplexity, tokens and samples of a token file as the device computes them.

    Args:
        folder: From `sent_inputs`.
        max_samples: Only so many samples from the start; 0 is all.
        progress: Called with samples done and samples in all.
    """
    arguments = [*_arguments(target, folder), "--max-samples", str(max_samples)]
    last = None
    running = run_trainer(target.device, target.runtime, "evaluate", *arguments, scratch=folder)
    for record in running:
        if record.get("type") == "progress":
            progress(int(_number([record], "samples")), int(_number([record], "total")))
        last = record
    loss = _number([last], "loss")
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "tokens": int(_number([last], "tokens")),
        "samples": int(_number([last], "samples")),
    }


def write_zero_adapter(bundle: Bundle, path: Path) -> None:
    """Write an adapter .ptd that leaves the model as it is."""
    specs = bundle.adapter.specs()
    write_flat_tensor(path, specs, (torch.zeros(spec.shape, dtype=spec.dtype) for spec in specs))


def _arguments(target: Target, folder: str) -> list[str]:
    return [
        *("--bundle", target.bundle),
        *("--data", f"{folder}/data.ptd"),
        *("--adapter", f"{folder}/adapter.ptd"),
        *("--threads", str(target.threads)),
        *("--arithmetic", target.arithmetic),
    ]


def _number(records: list[Any], key: str) -> float:
    """Return a field of the last record; null stands for a number that is not finite."""
    value = records[-1].get(key) if records and isinstance(records[-1], dict) else ""
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        raise ToolkitError(
            f"the trainer's output has no number {key!r}", "Deploy the runtime again"
        )
    return float(value)
