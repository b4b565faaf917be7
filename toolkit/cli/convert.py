"""`toolkit convert`: an adapter in the format of another program."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from toolkit.cli.common import console, print_json, say_next
from toolkit.cli.options import AdapterFolder, AsJson, OfModel
from toolkit.cli.units import bytes_text
from toolkit.trace.units import plural


def convert(
    run: AdapterFolder,
    to: Annotated[Literal["gguf"], typer.Option(help="llama.cpp's format of adapters.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write (default: RUN.gguf).")
    ] = None,
    base: OfModel = None,
    as_json: AsJson = False,
) -> None:
    """Write an adapter for llama.cpp, which adds it to its model when it loads both.

    \b
    Examples:
      toolkit convert runs/run1 --to gguf
      toolkit convert runs/run1 --to gguf -o run1.gguf --base bundle
    """
    import toolkit

    path = output if output is not None else run.with_name(f"{run.absolute().name}.{to}")
    converted = toolkit.convert(run, path, base=base)
    if as_json:
        print_json(
            {
                "path": str(converted.path),
                "weights": converted.weights,
                "bytes": converted.nbytes,
            }
        )
        return
    console.print(
        f"{converted.path}: {plural(converted.weights, 'weight')}, {bytes_text(converted.nbytes)}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    say_next(f"llama-cli -m MODEL.gguf --lora {path}")
