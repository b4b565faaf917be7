"""Options that several commands have, and what some of them choose from."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.choices import LOWERINGS, SCHEMES
from toolkit.settings.training import FLAGS

OnDevice = Annotated[str, typer.Option("--device", help=FLAGS["device"].help)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

if TYPE_CHECKING:
    Lowering = str
    Scheme = str
else:
    Lowering = Literal[LOWERINGS]
    Scheme = Literal[("auto", *SCHEMES)]
