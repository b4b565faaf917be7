"""`toolkit merge`: a model with an adapter folded in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.api.exchanging import FORMATS, TYPES
from toolkit.cli.common import console, print_json, say_next
from toolkit.cli.options import AdapterFolder, AsJson, OfModel
from toolkit.cli.transfers import transfer_bar
from toolkit.cli.units import bytes_text
from toolkit.modalities import parts_text
from toolkit.trace.units import plural

if TYPE_CHECKING:
    _Format = str
    _Type = str
else:
    _Format = Literal[FORMATS]
    _Type = Literal[TYPES]


def merge(
    run: AdapterFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory or file to write.")],
    base: OfModel = None,
    to: Annotated[
        _Format, typer.Option(help="A directory of transformers, or a GGUF file of llama.cpp.")
    ] = "directory",
    type: Annotated[
        _Type,
        typer.Option(
            help="Numbers of the directory (auto: the model's own); of a GGUF file (auto: f16), "
            "where embedding and head keep 8 bits beside 4; or, where the model is a GGUF file, of "
            "the weights that the adapter changes (auto: q8_0; the others stay byte by byte)."
        ),
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Fold an adapter into its model, for programs that know no adapters.

    The weights are the model's own where it is at hand; else those that the bundle's quantized
    ones stand for, which is what the adapter was trained with. Either way it is said.

    \b
    Examples:
      toolkit merge runs/run1 -o merged
      toolkit merge runs/run1 -o merged --base bundle --type f16
      toolkit merge runs/run1 -o merged.gguf --to gguf --type q8_0
      toolkit merge runs/run1 -o merged.gguf --to gguf --base model.Q4_1.gguf
    """
    import toolkit

    with transfer_bar(f"merge {run}") as progress:
        merged = toolkit.merge(
            run,
            output,
            base=base,
            to=to,
            type=type,
            progress=lambda done, total: progress(str(output), done, total),
        )
    if as_json:
        print_json(
            {
                "path": str(merged.path),
                "base": merged.base,
                "original": merged.original,
                "weights": merged.weights,
                "type": merged.kind,
                "bytes": merged.nbytes,
                "left_out": dict(merged.left_out),
            }
        )
        return
    what = f"{plural(merged.weights, 'weight')} changed, {merged.kind}, {bytes_text(merged.nbytes)}"
    console.print(
        f"{merged.path}: {what}, made of {merged.base}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if merged.left_out:
        line = f"It is the text part alone; left out: {parts_text(merged.left_out)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    say_next(f"llama-cli -m {output}" if to == "gguf" else f"toolkit export {output} -o bundle2")
