"""`toolkit train`: start a run on a device, watch it, stop it at a step, come back to it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from toolkit.cli.common import print_json
from toolkit.cli.train_system import system_trace
from toolkit.cli.train_watch import Outcome, watch
from toolkit.device import Device, open_device
from toolkit.device.layout import check_name, choose, run_path
from toolkit.device.runs import Run, Value, attach, read_settings, start
from toolkit.device.runtime import check_version, find_runtime
from toolkit.errors import ToolkitError


def train(
    device: Annotated[
        str, typer.Option("--device", help="local, a USB SERIAL, or HOST:PORT.")
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
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    optimizer: Annotated[
        Literal["sgd", "adamw"] | None, typer.Option(help="How gradients change the adapter.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Sequences computed together; the bundle needs programs for all their tokens. "
            "Faster for short sequences, with more memory.",
        ),
    ] = None,
    grad_accum: Annotated[
        int | None,
        typer.Option(min=1, help="Batches, one after the other, whose gradients make one step."),
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled weight decay.")] = None,
    beta1: Annotated[float | None, typer.Option(help="AdamW: decay of the mean.")] = None,
    beta2: Annotated[float | None, typer.Option(help="AdamW: decay of the square.")] = None,
    eps: Annotated[float | None, typer.Option(help="AdamW: added to the root.")] = None,
    momentum: Annotated[float | None, typer.Option(help="SGD: momentum.")] = None,
    max_grad_norm: Annotated[
        float | None, typer.Option(help="Clip gradients to this global norm; 0 is off.")
    ] = None,
    warmup_steps: Annotated[
        int | None, typer.Option(min=0, help="Steps of linear warm-up.")
    ] = None,
    schedule: Annotated[
        Literal["constant", "linear", "cosine"] | None,
        typer.Option(help="Learning rate after the warm-up."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the samples' order.")] = None,
    order: Annotated[
        Literal["shuffled", "sequential"] | None, typer.Option(help="Order of the samples.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on the device.")] = None,
    checkpoints: Annotated[
        Literal["auto", "ram", "spill"] | None,
        typer.Option(help="Where block inputs wait for the backward; spill is to storage."),
    ] = None,
    page_cache: Annotated[
        Literal["auto", "keep", "drop"] | None,
        typer.Option(help="Of weights that were used; auto keeps them if all fit into memory."),
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(min=0, help="Save every so many steps, and at the end.")
    ] = None,
    save_minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Save every so many minutes too; 0 is off. Without --save-every saves are so far "
            "apart that they write at most 1 GB an hour.",
        ),
    ] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(min=0, help="Evaluate held-out data every N steps; 0: first and last."),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="Start from this adapter.ptd instead of the bundle's.")
    ] = None,
    trace: Annotated[
        Literal["full", "steps"] | None, typer.Option(help="How much the trace records.")
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
    everything saved; a second Ctrl-C leaves it running. Flags that are not given have the trainer's
    defaults, or with --resume those the run was started with.

    \b
    Examples:
      toolkit train --device local --steps 50 --lr 1e-4 --out run1
      toolkit train --out run1 --resume --steps 100
      toolkit train --steps 50 --optimizer adamw --grad-accum 4 --out run2 --detach
      toolkit train --attach run2
      toolkit train --device SERIAL --steps 5 --out run3 --atrace
    """
    settings: dict[str, Value] = {
        "steps": steps,
        "lr": lr,
        "optimizer": optimizer,
        "batch-size": batch_size,
        "grad-accum": grad_accum,
        "weight-decay": weight_decay,
        "beta1": beta1,
        "beta2": beta2,
        "eps": eps,
        "momentum": momentum,
        "max-grad-norm": max_grad_norm,
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
            run = _start(target, check_name(out, "run"), bundle, data, adapter, settings, resume)
        if detach:
            _announce(run, as_json)
            return
        outcome = watch(run, steps, as_json=as_json)
    if outcome is Outcome.FAILED:
        raise typer.Exit(1)


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


def _start(
    device: Device,
    name: str,
    bundle: str | None,
    data: str | None,
    adapter: Path | None,
    settings: dict[str, Value],
    resume: bool,
) -> Run:
    runtime = find_runtime(device)
    check_version(device, runtime)
    given = {"bundle": bundle, "data": data, **settings}
    if resume:
        remembered = read_settings(device, name, set(given))
        given = remembered | {key: value for key, value in given.items() if value is not None}
        if given.get("steps") is None:
            raise ToolkitError(f"how long run {name!r} should be is not known", "Give --steps")
    bundle_item = choose(device, "bundles", _text(given.get("bundle")))
    data_item = choose(device, "data", _text(given.get("data")))
    given |= {"bundle": bundle_item.name, "data": data_item.name}
    arguments = ["--bundle", bundle_item.path, "--data", f"{data_item.path}/train.ptd"]
    for flag in settings:
        if given.get(flag) is not None:
            arguments += [f"--{flag}", str(given[flag])]
    if given.get("eval-every") is not None:
        arguments += ["--eval-data", _validation(device, data_item.path)]
    if adapter is not None:
        arguments += ["--adapter", _push_adapter(device, name, adapter)]
    return start(device, runtime, name, arguments, resume=resume, settings=given)


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
        bundle = choose(device, "bundles", bundle).name
        data = choose(device, "data", data).name
    return app.start(device, name, bundle, data, settings, resume=resume)


def _text(value: Value) -> str | None:
    return None if value is None else str(value)


def _validation(device: Device, data: str) -> str:
    path = f"{data}/validation.ptd"
    if device.stat(path) is None:
        raise ToolkitError(
            "--eval-every needs held-out data, and the data on the device has none",
            "Make it with `toolkit data --validation 0.05`, or leave --eval-every away",
        )
    return path


def _push_adapter(device: Device, name: str, adapter: Path) -> str:
    """Send an adapter to start from beside the run, which does not exist yet."""
    if not adapter.is_file():
        raise ToolkitError(f"there is no file {adapter}", "Name an adapter.ptd")
    device.make_directory(f"{device.root}/adapters")
    path = f"{run_path(device, name).replace('/runs/', '/adapters/')}.ptd"
    device.write(path, adapter.read_bytes())
    return path


def _announce(run: Run, as_json: bool) -> None:
    from toolkit.cli.common import console

    if as_json:
        print_json({"run": run.name, "device": run.device.spec, "path": run.path})
        return
    console.print(f"run {run.name} was started on {run.device.spec}", highlight=False)
    console.print(
        f"watch it: toolkit train --device {run.device.spec} --attach {run.name}", highlight=False
    )
