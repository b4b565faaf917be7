"""Options that several commands have, and what some of them choose from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.choices import ARITHMETICS, ISAS, LOWERINGS, SCHEMES
from toolkit.settings.training import FLAGS

OnDevice = Annotated[str, typer.Option("--device", help=FLAGS["device"].help)]
AdapterFolder = Annotated[
    Path, typer.Argument(help="Folder of a PEFT adapter, as `toolkit pull` brings it.")
]
OfModel = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="Model (directory, hub id, .gguf) or bundle. Default: what the adapter names, else "
        "the run's bundle near it.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

if TYPE_CHECKING:
    Arithmetic = str
    Isa = str
    Lowering = str
    Scheme = str
else:
    Arithmetic = Literal[ARITHMETICS]
    Isa = Literal[ISAS]
    Lowering = Literal[LOWERINGS]
    Scheme = Literal[("auto", *SCHEMES)]

InArithmetic = Annotated[
    Arithmetic,
    typer.Option("--arithmetic", help="Of products with quantized weights, as of toolkit train."),
]
