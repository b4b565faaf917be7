"""`toolkit plan`: what a training step will take, before anything is exported."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from toolkit.cli.common import console, error_console, print_json
from toolkit.lora import parse_pattern, parse_targets
from toolkit.settings.optimizers import OptimizerName

if TYPE_CHECKING:
    from toolkit.planning.settings import Machine, Settings


def plan(
    model: Annotated[
        str,
        typer.Argument(
            help="Bundle, recipe (name or path), hub id, .gguf file, or directory with config.json."
        ),
    ],
    budget: Annotated[
        str | None, typer.Option(help="Memory to stay within, e.g. 100MB.", metavar="SIZE")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Measure this device for five seconds: local, SERIAL or HOST:PORT."),
    ] = None,
    seq_len: Annotated[
        int | None, typer.Option("--seq-len", min=1, help="Sequence length.")
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(min=1, help="LoRA rank; alpha follows it, at the default twice the rank."),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="Projections with adapters, comma-separated, or all-linear."),
    ] = None,
    rank_pattern: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=R", help="Another rank for a target; repeat for several."),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(metavar="A-B|last:K", help="Layers with adapters, as of toolkit export."),
    ] = None,
    lowering: Annotated[
        Literal["mesp", "mebp"] | None, typer.Option(help="How gradients are computed.")
    ] = None,
    optimizer: Annotated[
        OptimizerName | None, typer.Option(help="How gradients change the adapter.")
    ] = None,
    momentum: Annotated[float | None, typer.Option(help="SGD: momentum.")] = None,
    max_grad_norm: Annotated[
        float | None, typer.Option(help="Clip gradients to this global norm; 0 is off.")
    ] = None,
    sequences: Annotated[
        int | None,
        typer.Option(min=1, help="Sequences of a step: batch size times accumulation."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Sequences computed together; they divide a step's.")
    ] = None,
    checkpoints: Annotated[
        Literal["auto", "ram", "spill"] | None,
        typer.Option(help="Where block inputs wait for the backward."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on the device.")] = None,
    isa: Annotated[
        Literal["neon", "avx2", "avx512", "plain"] | None,
        typer.Option(help="Instruction set of the device."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Predict the memory and time of a training step from the model's shape alone.

    With a budget (or a device, whose free memory is one) it proposes the fastest settings that fit
    and the commands to use them. Options given here are kept; the others may be changed to fit.
    Exit code 1 when nothing fits.

    \b
    Examples:
      toolkit plan qwen2.5-0.5b
      toolkit plan Qwen/Qwen2.5-0.5B-Instruct --budget 100MB
      toolkit plan bundle --seq-len 512 --optimizer sgd
      toolkit plan smollm2-135m --device local --json
    """
    given = {
        "seq_len": seq_len,
        "rank": rank,
        "targets": None if targets is None else parse_targets(targets),
        "rank_pattern": parse_pattern("--rank-pattern", rank_pattern or (), int) or None,
        "layers": layers,
        "lowering": lowering,
        "optimizer": optimizer,
        "momentum": momentum,
        "max_grad_norm": max_grad_norm,
        "sequences": batch_size if sequences is None else sequences,
        "batch_size": batch_size,
        "checkpoints": checkpoints,
    }
    if batch_size is not None and sequences is not None and sequences % batch_size != 0:
        raise typer.BadParameter("--sequences is no multiple of --batch-size")
    fixed = {name: value for name, value in given.items() if value is not None}
    from toolkit.planning.sizes import parse_size

    limit = None if budget is None else parse_size(budget)
    with error_console.status("reading the model"):
        from toolkit.planning.model import open_model
        from toolkit.planning.predict import Planner

        opened = open_model(model)
        planner = Planner(opened)
        settings = _settings(opened.settings, fixed)
    machine = _machine(device, threads, isa)
    if limit is None and device is not None and machine.available:
        limit = machine.available
    raise typer.Exit(
        _answer(opened, planner, settings, machine, limit, set(fixed), device, as_json)
    )


def _answer(
    model: Any,
    planner: Any,
    settings: "Settings",
    machine: "Machine",
    limit: int | None,
    fixed: set[str],
    device: str | None,
    as_json: bool,
) -> int:
    from toolkit.planning import report
    from toolkit.planning.search import propose

    if limit is None:
        prediction = planner.predict(settings, machine)
        if as_json:
            print_json(report.prediction_to_json(model, prediction, device))
        else:
            report.print_prediction(console, model, prediction, device)
        return 0
    with error_console.status("trying settings"):
        proposal = propose(planner, settings, machine, limit, fixed)
    if as_json:
        print_json(report.proposal_to_json(model, proposal, device))
    else:
        report.print_proposal(console, model, proposal, device)
    return 0 if proposal.best else 1


def _settings(defaults: "Settings", fixed: dict[str, Any]) -> "Settings":
    settings = replace(defaults, **fixed)
    if "rank" in fixed:
        settings = replace(settings, alpha=defaults.alpha * settings.rank / defaults.rank)
    return settings


def _machine(device: str | None, threads: int | None, isa: str | None) -> "Machine":
    from toolkit.planning.scratch import Kernels
    from toolkit.planning.settings import Machine

    machine = Machine()
    if device is not None:
        from toolkit.device import open_device
        from toolkit.planning.measure import measure

        with open_device(device) as opened, error_console.status("connecting") as status:
            machine = measure(opened, threads or 0, status.update)
    kernels = Kernels(isa or machine.kernels.isa, threads or machine.kernels.threads)
    return replace(machine, kernels=kernels)
