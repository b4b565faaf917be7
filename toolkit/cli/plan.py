"""`toolkit plan`: what a training step will take, before anything is exported."""

from typing import Annotated

import typer

from toolkit.cli.common import console, error_console, print_json
from toolkit.cli.flags import takes
from toolkit.cli.options import Isa, Lowering
from toolkit.lora import parse_pattern, parse_targets
from toolkit.settings.declaration import Value
from toolkit.settings.training import SETTINGS


@takes(
    [known for known in SETTINGS if known.plan],
    batch_size="Sequences computed together; they divide a step's.",
)
def plan(
    asked: dict[str, Value],
    *,
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
    lowering: Annotated[Lowering | None, typer.Option(help="How gradients are computed.")] = None,
    sequences: Annotated[
        int | None,
        typer.Option(min=1, help="Sequences of a step: batch size times accumulation."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on the device.")] = None,
    isa: Annotated[
        Isa | None,
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
    if sequences is not None and sequences % int(asked.get("batch-size") or 1):
        raise typer.BadParameter("--sequences is no multiple of --batch-size")
    with error_console.status("reading the model") as status:
        import toolkit

        found = toolkit.plan(
            model,
            budget=budget,
            device=device,
            seq_len=seq_len,
            rank=rank,
            targets=None if targets is None else parse_targets(targets),
            rank_pattern=parse_pattern("--rank-pattern", rank_pattern or (), int),
            layers=layers,
            lowering=lowering,
            sequences=sequences,
            threads=threads,
            isa=isa,
            say=status.update,
            **{known.name: asked.get(known.flag) for known in SETTINGS if known.plan},
        )
    if as_json:
        print_json(found.to_json())
    else:
        found.print(console)
    raise typer.Exit(0 if found.fits else 1)
