"""`toolkit inspect`: what a bundle holds, or training data."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from toolkit.choices import lowering_label
from toolkit.cli.common import console, print_json, say_next
from toolkit.cli.samples import SHOWN, ShowCommand
from toolkit.errors import ToolkitError
from toolkit.lora import LoraSettings

app = typer.Typer()
_WORST = 5


@app.command("inspect", cls=ShowCommand)
def inspect(
    bundle: Annotated[
        Path,
        typer.Argument(metavar="bundle|data", help="Directory of a bundle, or of training data."),
    ],
    tensors: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"How many of a bundle's worst quantized tensors to list. [default: {_WORST}]",
            show_default=False,
        ),
    ] = None,
    show: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="[N]",
            help=f"Show N of the data's sequences ({SHOWN}) as the model sees them.",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="For --show: the bundle, model directory, .gguf file or hub id of the data.",
            show_default=False,
        ),
    ] = None,
    hashes: Annotated[
        bool, typer.Option("--hashes/--no-hashes", help="Check the SHA-256 of every file.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a bundle holds: sizes, programs, quantization errors; or what training data does.

    Sizes are of the frozen weights; the planned arena is what a method needs beside its inputs
    and outputs, before the operators' own scratch memory. Of data it shows where it came from, how
    much there is and, with --show, what the model sees and learns of it.

    \b
    Examples:
      toolkit inspect bundle
      toolkit inspect bundle --tensors 20
      toolkit inspect bundle --json --no-hashes
      toolkit inspect data --show --tokenizer bundle
    """
    if (bundle / "data.json").is_file():
        if tensors is not None:
            raise typer.BadParameter("--tensors is for bundles")
        if (show is None) != (tokenizer is None):
            raise typer.BadParameter("--show and --tokenizer need each other")
        from toolkit.cli.inspect_data import inspect_data

        inspect_data(bundle, tokenizer, show, hashes=hashes, as_json=as_json)
        return
    if show is not None or tokenizer is not None:
        raise typer.BadParameter("--show and --tokenizer are for data")
    from toolkit.bundle.inspection import inspect_bundle

    found = inspect_bundle(bundle, check_hashes=hashes)
    if as_json:
        print_json(found)
        return
    try:
        with console.capture() as shown:
            _print_model(bundle, found)
            _print_sizes(found)
            _print_methods(found)
            _print_quantization(found, _WORST if tensors is None else tensors)
            state = f"match in all {len(found['files'])} files" if hashes else "not checked"
            console.print(f"Hashes {state}.", markup=False)
    except (ToolkitError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        why = getattr(error, "cause", error)
        raise ToolkitError(
            f"The bundle {bundle} is damaged: its manifest lacks or misstates something ({why})",
            "Export it again",
        ) from error
    print(shown.get(), end="")
    say_next(f"toolkit data FILE --tokenizer {bundle} -o data")


def _table(title: str) -> Table:
    """Return a table without frames, which would leave a narrow terminal no room for names."""
    return Table(title=title, title_justify="left", box=None, pad_edge=False)


def _layer(tensor: str) -> str:
    """Return the layer in a tensor's name, nothing for embedding and head."""
    return tensor.split(".")[1] if tensor.startswith("layers.") else ""


def _print_model(bundle: Path, found: dict[str, Any]) -> None:
    model, shape, lora = found["model"], found["shape"], found["lora"]
    made_by = f"format {found['format_version']}, made by toolkit {found['toolkit']}"
    lines = {
        "Bundle": f"{bundle} ({made_by})",
        "Model": f"{model['name']} ({found['family']}), {found['base']['parameters'] / 1e6:.1f} M"
        " parameters",
        "Left out": ", ".join(model.get("left_out", ())),
        "Source": " ".join(filter(None, [model["origin"], model["revision"][:12]])),
        "License": model["license"] or "not stated",
        "Shape": f"{shape['layers']} layers, hidden {shape['hidden_size']}, feed-forward "
        f"{shape['intermediate_size']}, heads {shape['heads']}/{shape['kv_heads']} of "
        f"{shape['head_dim']}, vocabulary {shape['vocab_size']}"
        + (", tied head" if shape["tied"] else ""),
        "Blocks": ", ".join(f"{len(layers)} {name}" for name, layers in found["blocks"].items()),
        "LoRA": f"{LoraSettings.from_json(lora).describe()}, {lora['parameters'] / 1e6:.2f} M"
        f" parameters on {', '.join(lora['targets'])}; start: {lora['start']}",
        "Lowering": lowering_label(found["lowering"]),
        "Lengths": ", ".join(map(str, found["seq_lens"])),
    }
    for name, text in lines.items():
        if text:
            console.print(f"{name:<9}{text}", markup=False, highlight=False, soft_wrap=True)


def _print_sizes(found: dict[str, Any]) -> None:
    table = _table("Size")
    table.add_column("part", overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True)
    for name, size in found["sizes"].items():
        table.add_row(name, f"{size:,}")
    console.print(table)


def _print_methods(found: dict[str, Any]) -> None:
    table = _table("Programs")
    table.add_column("method", no_wrap=True)
    table.add_column("planned\narena", justify="right", no_wrap=True)
    table.add_column("operators", overflow="fold")
    for name, method in found["methods"].items():
        operators = ", ".join(name.removeprefix("toolkit::") for name in method["operators"])
        table.add_row(name, f"{method['arena_bytes']:,}", operators)
    console.print(table)


def _print_quantization(found: dict[str, Any], count: int) -> None:
    table = _table("Quantization error (norm of error / norm of weight)")
    for name in ("weight", "scheme", "tensors", "taken\nover", "mean", "worst"):
        side: Literal["left", "right"] = "left" if name in ("weight", "scheme") else "right"
        table.add_column(name, justify=side, no_wrap=True)
    table.add_column("in layer", overflow="fold")
    for group in found["quantization"]["summary"]:
        table.add_row(
            group["weight"],
            group["scheme"],
            str(group["count"]),
            str(group["taken_over"]),
            f"{group['mean_error']:.4f}",
            f"{group['worst_error']:.4f}",
            _layer(group["worst"]) if group["worst_error"] else "",
        )
    console.print(table)
    worst = found["quantization"]["tensors"][:count]
    if worst and worst[0]["relative_error"] > 0:
        console.print("Worst tensors:")
        for tensor in worst:
            console.print(
                f"  {tensor['relative_error']:.4f}  {tensor['name']} ({tensor['scheme']})",
                markup=False,
                highlight=False,
            )
