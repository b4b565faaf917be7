"""`toolkit train`: start a run on a device, watch it, stop it at a step, come back to it."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from toolkit.cli.common import print_json, say
from toolkit.cli.train_system import system_trace
from toolkit.cli.train_watch import watch
from toolkit.device import Device, open_device, training
from toolkit.device.layout import check_name, choose
from toolkit.device.run_settings import Value
from toolkit.device.runs import Run, attach
from toolkit.device.training import DEFAULTS, Request, defaults_of
from toolkit.errors import ToolkitError
from toolkit.settings.methods import MethodName
from toolkit.settings.optimizers import OPTIMIZERS, OptimizerName


def _flag(name: str, text: str, **limits: int) -> Any:
    """Return an option of the trainer, whose defaults stay the trainer's and are shown."""
    shown = [DEFAULTS[name]]
    for optimizer in OPTIMIZERS:
        own = defaults_of(optimizer)[name]
        shown += [f"{optimizer} {own}"] if own != DEFAULTS[name] else []
    return typer.Option(f"--{name}", help=f"{text}  [default: {', '.join(shown)}]", **limits)


def train(
    device: Annotated[
        str, typer.Option("--device", help="local, a phone's SERIAL, or HOST:PORT.")
    ] = "local",
    out: Annotated[str | None, typer.Option("--out", help="Name of the run on the device.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimizer steps of the whole run.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option("--bundle", help="Bundle on the device (default: the last sent).")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Data on the device (default: the last sent).")
    ] = None,
    lr: Annotated[float | None, _flag("lr", "Learning rate.")] = None,
    method: Annotated[
        MethodName | None, _flag("method", "How a step finds what to change.")
    ] = None,
    optimizer: Annotated[
        OptimizerName | None, _flag("optimizer", "How gradients change the adapter.")
    ] = None,
    batch_size: Annotated[
        int | None,
        _flag(
            "batch-size",
            "Sequences computed together; the bundle needs programs for all their tokens. "
            "Faster for short sequences, with more memory.",
            min=1,
        ),
    ] = None,
    grad_accum: Annotated[
        int | None,
        _flag("grad-accum", "Batches, one after the other, whose gradients make one step.", min=1),
    ] = None,
    weight_decay: Annotated[float | None, _flag("weight-decay", "Decoupled weight decay.")] = None,
    beta1: Annotated[float | None, _flag("beta1", "Decay of the gradient's mean.")] = None,
    beta2: Annotated[
        float | None, _flag("beta2", "Decay of its square's mean, or lion's second decay.")
    ] = None,
    eps: Annotated[float | None, _flag("eps", "AdamW: added to the root.")] = None,
    momentum: Annotated[float | None, _flag("momentum", "SGD: momentum.")] = None,
    max_grad_norm: Annotated[
        float | None, _flag("max-grad-norm", "Clip gradients to this global norm; 0 is off.")
    ] = None,
    lora_plus_ratio: Annotated[
        float | None,
        _flag("lora-plus-ratio", "LoRA+: the learning rate of B is so many times that of A."),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="A-B|last:K",
            help="Train the adapters of these layers alone, as 16-23, 0,4,8-11 or last:8; the "
            "backward pass ends with the lowest of them.  [default: all that have adapters]",
        ),
    ] = None,
    warmup_steps: Annotated[
        int | None, _flag("warmup-steps", "Steps of linear warm-up.", min=0)
    ] = None,
    schedule: Annotated[
        Literal["constant", "linear", "cosine"] | None,
        _flag("schedule", "Learning rate after the warm-up."),
    ] = None,
    seed: Annotated[int | None, _flag("seed", "Seed of the samples' order.", min=0)] = None,
    order: Annotated[
        Literal["shuffled", "sequential"] | None, _flag("order", "Order of the samples.")
    ] = None,
    threads: Annotated[
        int | None, _flag("threads", "Threads on the device; 0: its fast cores.", min=0)
    ] = None,
    checkpoints: Annotated[
        Literal["auto", "ram", "spill"] | None,
        _flag("checkpoints", "Where block inputs wait for the backward; spill is to storage."),
    ] = None,
    page_cache: Annotated[
        Literal["auto", "keep", "drop"] | None,
        _flag("page-cache", "Of weights that were used; auto keeps them if all fit into memory."),
    ] = None,
    save_every: Annotated[
        int | None, _flag("save-every", "Save every so many steps, and at the end.", min=0)
    ] = None,
    save_minutes: Annotated[
        float | None,
        _flag(
            "save-minutes",
            "Save every so many minutes too; 0 is off. Without --save-every saves are so far "
            "apart that they write at most 1 GB an hour.",
            min=0,
        ),
    ] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Evaluate held-out data every N steps; with 0 only before the first step and "
            "after the last. Without this option nothing is evaluated.",
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            help="Start from this adapter instead of the bundle's: a folder that peft saved or "
            "`toolkit pull` brought, or an adapter.ptd."
        ),
    ] = None,
    trace: Annotated[
        Literal["full", "steps"] | None, _flag("trace", "How much the trace records.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run --out where it was saved.")
    ] = False,
    attach_to: Annotated[
        str | None, typer.Option("--attach", help="Watch this run instead of starting one.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the run and leave it to itself.")
    ] = False,
    app: Annotated[
        bool, typer.Option("--app", help="Train in the Android app instead of the shell.")
    ] = False,
    atrace: Annotated[
        bool,
        typer.Option(
            "--atrace", help="Record the phone's system trace too: runs/OUT.system.pftrace."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the trace's records as JSON lines.")
    ] = False,
) -> None:
    """Train on a device, with progress.

    The run goes on when the connection breaks. Ctrl-C stops it after the current step with
    everything saved; a second Ctrl-C leaves it running. With --resume flags that are not given keep
    the values the run was started with, bundle, data and adapter included.

    \b
    Examples:
      toolkit train --device local --steps 50 --lr 1e-4 --out run1
      toolkit train --out run1 --resume --steps 100
      toolkit train --steps 50 --optimizer adamw --grad-accum 4 --out run2 --detach
      toolkit train --attach run2
      toolkit train --steps 50 --adapter runs/run1 --out run3
      toolkit train --device SERIAL --steps 5 --out run4 --atrace
    """
    settings: dict[str, Value] = {
        "steps": steps,
        "lr": lr,
        "method": method,
        "optimizer": optimizer,
        "batch-size": batch_size,
        "grad-accum": grad_accum,
        "weight-decay": weight_decay,
        "beta1": beta1,
        "beta2": beta2,
        "eps": eps,
        "momentum": momentum,
        "max-grad-norm": max_grad_norm,
        "lora-plus-ratio": lora_plus_ratio,
        "layers": layers,
        "warmup-steps": warmup_steps,
        "schedule": schedule,
        "seed": seed,
        "order": order,
        "threads": threads,
        "checkpoints": checkpoints,
        "page-cache": page_cache,
        "save-every": save_every,
        "save-minutes": save_minutes,
        "eval-every": eval_every,
        "trace": trace,
    }
    _check_usage(out, steps, attach_to, resume, settings)
    if atrace and detach:
        raise typer.BadParameter("--atrace ends with this command, so it takes no --detach")
    with open_device(device) as target, system_trace(target, attach_to or out, atrace):
        if app:
            run = _app_run(
                target, attach_to or out, bundle, data, adapter, settings, resume, attach_to
            )
        elif attach_to is not None:
            run = attach(target, check_name(attach_to, "run"))
        else:
            assert out is not None
            request = Request(check_name(out, "run"), settings, bundle, data, adapter)
            run = (training.resume if resume else training.begin)(target, request, say)
        if detach:
            _announce(run, as_json)
            return
        began = attach_to is None and not resume
        watch(run, steps, as_json=as_json, began=began)


def _check_usage(
    out: str | None,
    steps: int | None,
    attach_to: str | None,
    resume: bool,
    settings: dict[str, Value],
) -> None:
    if attach_to is None:
        if out is None or (steps is None and not resume):
            raise typer.BadParameter("--out and --steps are needed (or --attach RUN)")
        return
    given = [f"--{name}" for name, value in settings.items() if value is not None]
    given += ["--out"] if out is not None else []
    given += ["--resume"] if resume else []
    if given:
        raise typer.BadParameter(f"--attach starts nothing, so it takes no {', '.join(given)}")


def _app_run(
    device: Device,
    name: str | None,
    bundle: str | None,
    data: str | None,
    adapter: Path | None,
    settings: dict[str, Value],
    resume: bool,
    attach_to: str | None,
) -> Run:
    from toolkit.device import app
    from toolkit.device.base import ShellDevice

    app.require_app(device)
    assert name is not None and isinstance(device, ShellDevice)
    if attach_to is not None:
        return app.AppRun(app.inside_app(device), check_name(name, "run"))
    if adapter is not None:
        raise ToolkitError("the app has no --adapter", "Leave it away, or train without --app")
    if not resume:
        chosen = choose(device, "bundles", bundle), choose(device, "data", data)
        training.check_pair(device, *chosen)
        bundle, data = (item.name for item in chosen)
    return app.start(device, name, bundle, data, settings, resume=resume)


def _announce(run: Run, as_json: bool) -> None:
    from toolkit.cli.common import console

    if as_json:
        print_json({"run": run.name, "device": run.device.spec, "path": run.path})
        return
    console.print(f"run {run.name} was started on {run.device.spec}", highlight=False)
    console.print(f"watch it: toolkit train {run.where} --attach {run.name}", highlight=False)
