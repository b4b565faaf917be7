"""Starting a run: which bundle and data, whether they belong together, and what a resume keeps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.data.fingerprint import check_same_tokenizer
from toolkit.data.template import FILE as TEMPLATE_FILE
from toolkit.device.adapters import read_json, send_adapter
from toolkit.device.base import Device
from toolkit.device.layout import Deployed, choose
from toolkit.device.run_settings import Settings, Value, changes, read_settings
from toolkit.device.run_start import require_resumable, start
from toolkit.device.runs import Run
from toolkit.device.runtime import check_version, find_runtime
from toolkit.errors import ToolkitError
from toolkit.settings.optimizers import OPTIMIZERS

DEFAULTS = {
    "lr": "0.0001",
    "method": "exact",
    "optimizer": "adamw",
    "batch-size": "1",
    "grad-accum": "1",
    "weight-decay": "0",
    "beta1": "0.9",
    "beta2": "0.999",
    "eps": "1e-08",
    "momentum": "0",
    "max-grad-norm": "0",
    "lora-plus-ratio": "1",
    "layers": "",
    "warmup-steps": "0",
    "schedule": "constant",
    "seed": "0",
    "order": "shuffled",
    "threads": "0",
    "checkpoints": "auto",
    "page-cache": "auto",
    "save-every": "50",
    "save-minutes": "2",
    "trace": "full",
}
"""What the trainer takes for flags that are not given, as its own help says it.

An optimizer may have another of its own, see `defaults_of`.
"""


def defaults_of(optimizer: str) -> dict[str, str]:
    """Return `DEFAULTS` as they are for one optimizer; an unknown one has no others."""
    own = OPTIMIZERS[optimizer].options if optimizer in OPTIMIZERS else {}
    return DEFAULTS | {name: f"{value:g}" for name, value in own.items()}


Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What a run is asked for; names are of the device, None leaves the choice to the default.

    Attributes:
        settings: Flags of `trainer train` without dashes, None where not given.
        adapter: What to start from, an adapter .ptd or a PEFT folder on this machine.
    """

    name: str
    settings: Mapping[str, Value]
    bundle: str | None = None
    data: str | None = None
    adapter: Path | None = None


def begin(device: Device, request: Request, say: Say) -> Run:
    """Start a new run.

    Args:
        say: Called with lines for people.

    Raises:
        ToolkitError: Something is missing, or bundle, data and adapter do not belong together.
    """
    runtime = find_runtime(device)
    check_version(device, runtime)
    given: Settings = dict(request.settings)
    bundle = choose(device, "bundles", request.bundle)
    data = choose(device, "data", request.data)
    if request.adapter is not None:
        given["adapter"] = send_adapter(device, request.adapter, bundle, say)
    given |= _chosen(bundle, data)
    arguments = _arguments(device, bundle, data, given, request.settings, say)
    # Whoever uses the adapter needs the template that it was made with.
    template = f"{data.path}/{TEMPLATE_FILE}"
    files = [template] if device.stat(template) else []
    return start(
        device, runtime, request.name, arguments, resume=False, settings=given, files=files
    )


def resume(device: Device, request: Request, say: Say) -> Run:
    """Continue a run with the settings it was started with, changed by those that are given.

    Raises:
        ToolkitError: It cannot go on, its settings are not known, or bundle or data are not those
            it was started with. Nothing that is stored has changed then.
    """
    runtime = find_runtime(device)
    check_version(device, runtime)
    if request.adapter is not None:
        raise ToolkitError(
            "a run keeps the adapter that it started from", "Leave --adapter away with --resume"
        )
    require_resumable(Run(device, request.name))
    known = {"bundle", "data", *request.settings}
    before = read_settings(device, request.name, known)
    given = before | {key: value for key, value in request.settings.items() if value is not None}
    if given.get("steps") is None:
        raise ToolkitError(f"how long run {request.name!r} should be is not known", "Give --steps")
    bundle = choose(device, "bundles", request.bundle or _text(before.get("bundle")))
    data = choose(device, "data", request.data or _text(before.get("data")))
    _require_same(device, request.name, "bundle", bundle, before)
    _require_same(device, request.name, "data", data, before)
    given |= _chosen(bundle, data)
    changed = changes(before, given, defaults_of(str(before.get("optimizer") or "adamw")))
    if changed:
        say(f"changed: {', '.join(changed)}")
    arguments = _arguments(device, bundle, data, given, request.settings, say)
    return start(device, runtime, request.name, arguments, resume=True, settings=given)


def _chosen(bundle: Deployed, data: Deployed) -> Settings:
    return {
        "bundle": bundle.name,
        "bundle-sha256": bundle.sha256,
        "data": data.name,
        "data-sha256": data.sha256,
    }


def _require_same(device: Device, run: str, what: str, now: Deployed, before: Settings) -> None:
    digest = before.get(f"{what}-sha256")
    if digest is None or digest == now.sha256:
        return
    flag = "" if before.get(what) == now.name else f" and name it with --{what}"
    raise ToolkitError(
        f"{what} {now.name!r} on device {device.spec} is not the one that run {run!r} was started "
        f"with (SHA-256 {now.sha256[:12]}, not {str(digest)[:12]})",
        f"Deploy that one again{flag}, or start another run",
    )


def _arguments(
    device: Device,
    bundle: Deployed,
    data: Deployed,
    given: Settings,
    flags: Mapping[str, Value],
    say: Say,
) -> list[str]:
    """Return the trainer's arguments after the checks that need no trainer."""
    if note := _too_many(given, check_pair(device, bundle, data)):
        say(note)
    arguments = ["--bundle", bundle.path, "--data", f"{data.path}/train.ptd"]
    for flag in flags:
        if given.get(flag) is not None:
            arguments += [f"--{flag}", str(given[flag])]
    if given.get("eval-every") is not None:
        arguments += ["--eval-data", _validation(device, data.path)]
    if given.get("adapter") is not None:
        arguments += ["--adapter", str(given["adapter"])]
    return arguments


def check_pair(device: Device, bundle: Deployed, data: Deployed) -> dict[str, Any]:
    """Check that data on a device is for a bundle there, and return what its data.json says.

    Raises:
        ToolkitError: It was made with another tokenizer.
    """
    facts = read_json(device, f"{data.path}/data.json")
    check_same_tokenizer(
        read_json(device, f"{bundle.path}/manifest.json"),
        facts,
        bundle=f"bundle {bundle.name!r}",
        data=f"data {data.name!r}",
    )
    return facts


def _too_many(given: Settings, facts: dict[str, Any]) -> str:
    """Return a warning if a step takes more sequences than the data has."""
    step = int(given.get("batch-size") or 1) * int(given.get("grad-accum") or 1)
    train = facts.get("train")
    there = train.get("sequences") if isinstance(train, dict) else None
    if not isinstance(there, int) or there < 1 or step <= there:
        return ""
    return (
        f"warning: a step takes {step} sequences and the data has {there}: every step sees each "
        f"{step / there:.3g} times"
    )


def _validation(device: Device, data: str) -> str:
    path = f"{data}/validation.ptd"
    if device.stat(path) is None:
        raise ToolkitError(
            "--eval-every needs held-out data, and the data on the device has none",
            "Make it with `toolkit data --validation 0.05`, or leave --eval-every away",
        )
    return path


def _text(value: Value) -> str | None:
    return None if value is None else str(value)
