"""`toolkit export`: from a model to a bundle."""

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.choices import APPROXIMATE_LOWERINGS, lowering_label
from toolkit.cli.common import console, error_console, print_json, say_next
from toolkit.cli.options import Lowering, Scheme
from toolkit.lora import PROJECTIONS, parse_pattern, parse_targets
from toolkit.modalities import parts_text


def export(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Model directory, hub id (OWNER/NAME), .gguf file, or recipe (name or path).",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Bundle directory to write.", show_default=False),
    ] = None,
    seq_len: Annotated[
        list[int] | None,
        typer.Option(
            "--seq-len",
            min=1,
            metavar="<int>",
            help="Sequence length; repeat for several. [default: 256]",
        ),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(min=1, help="LoRA rank. [default: 8]", show_default=False)
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="LoRA alpha; alpha / rank scales the adapter. [default: twice the rank]",
            show_default=False,
        ),
    ] = None,
    rslora: Annotated[
        bool, typer.Option("--rslora", help="Scale by alpha / sqrt(rank) instead (rsLoRA).")
    ] = False,
    targets: Annotated[
        str | None,
        typer.Option(
            help="Projections with adapters, comma-separated, or all-linear for every linear layer "
            f"of a block. [default: {','.join(PROJECTIONS)}, or what a family has that fuses some]",
            show_default=False,
        ),
    ] = None,
    rank_pattern: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=R", help="Another rank for one of the targets; repeat for several."
        ),
    ] = None,
    alpha_pattern: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ALPHA", help="Another alpha for one of the targets; repeat for several."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="A-B|last:K",
            help="Layers with adapters: numbers and ranges, as 0,4,8-11, or the K uppermost. Those "
            "below the lowest need no backward pass. [default: all]",
            show_default=False,
        ),
    ] = None,
    lowering: Annotated[
        Lowering | None,
        typer.Option(
            help="mesp recomputes inside the operators, mebp stores every intermediate of a block, "
            "ms-bp less of its norms, approx-bp less of its activation too, for which its "
            "gradients are approximate. [default: mesp]",
            show_default=False,
        ),
    ] = None,
    quantization: Annotated[
        Scheme | None,
        typer.Option(
            help="Linear layers; auto keeps a GGUF file's own and else takes int4. [default: auto]",
            show_default=False,
        ),
    ] = None,
    embedding_quantization: Annotated[
        Scheme | None,
        typer.Option(
            help="Embedding and head; auto keeps a GGUF file's own and else takes int8. "
            "[default: auto]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the adapter and of random weights.")] = 0,
    adapter: Annotated[
        Path | None,
        typer.Option(
            help="Directory of a PEFT adapter to start from; all LoRA settings come from it.",
            show_default=False,
        ),
    ] = None,
    random_weights: Annotated[
        str | None,
        typer.Option(
            help="Recipe whose shape gets seeded random weights, instead of MODEL.",
            metavar="RECIPE",
            show_default=False,
        ),
    ] = None,
    as_zip: Annotated[
        bool,
        typer.Option(
            "--zip", help="Also write OUTPUT.zip, one file that the app imports without a computer."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Turn a model into a bundle of training programs and quantized weights.

    A model with a recipe takes the recipe's settings for what is not given here. The bundle appears
    under its name only when it is complete.

    \b
    Examples:
      toolkit export HuggingFaceTB/SmolLM2-135M-Instruct -o bundle
      toolkit export SmolLM2-135M-Instruct.Q4_1.gguf -o bundle --seq-len 256 --seq-len 512
      toolkit export ./my-llama -o bundle --rank 16 --alpha 32 --targets q_proj,v_proj
      toolkit export ./my-llama -o bundle --targets all-linear --rslora --rank-pattern q_proj=16
      toolkit export ./my-llama -o bundle --layers last:8
      toolkit export ./my-llama -o bundle --adapter runs/run1
      toolkit export --random-weights qwen2.5-0.5b --seed 0 -o bundle
      toolkit export HuggingFaceTB/SmolLM2-135M-Instruct -o smollm2 --zip
    """
    if (model is None) == (random_weights is None):
        raise typer.BadParameter("give either MODEL or --random-weights RECIPE")
    if output is None:
        raise typer.BadParameter("give the bundle's directory with -o")

    import toolkit
    from toolkit.bundle.archive import write_archive
    from toolkit.cli.export_progress import ExportProgress

    started = time.monotonic()
    with ExportProgress(error_console) as progress:
        progress.stage("Opening model")
        bundle = toolkit.export(
            model,
            output,
            seq_lens=seq_len,
            rank=rank,
            alpha=alpha,
            targets=None if targets is None else parse_targets(targets),
            rslora=rslora,
            rank_pattern=parse_pattern("--rank-pattern", rank_pattern or (), int),
            alpha_pattern=parse_pattern("--alpha-pattern", alpha_pattern or (), float),
            layers=layers,
            lowering=lowering,
            quantization=quantization,
            embedding_quantization=embedding_quantization,
            seed=seed,
            adapter=adapter,
            random_weights=random_weights,
            progress=progress,
        )
        archive = None
        if as_zip:
            progress.stage("Writing zip")
            archive = write_archive(bundle, output.with_name(f"{output.absolute().name}.zip"))
    if as_json:
        print_json(bundle.manifest)
        return
    _tell(bundle.manifest, output, time.monotonic() - started, archive)


def _tell(manifest: dict[str, Any], output: Path, seconds: float, archive: Path | None) -> None:
    """Print what was written and what comes next."""
    console.print(f"{output}: {content_line(manifest)} in {seconds:.0f} s", markup=False)
    for line in (weights_line(manifest), lowering_line(manifest), left_out_line(manifest)):
        if line:
            console.print(line, markup=False, soft_wrap=True)
    if archive is not None:
        console.print(f"One file to import in the app: {archive}", markup=False, soft_wrap=True)
    console.print(f"See what is in it with: toolkit inspect {output}", markup=False)
    where = shlex.quote(str(output))
    text = f"FILE --tokenizer {where}" if manifest["tokenizer"] else f"--random 64 --bundle {where}"
    say_next(f"toolkit data {text} -o data")


def weights_line(manifest: dict[str, Any]) -> str:
    """Return bits and error of the quantized weights."""
    quantization = manifest["quantization"]
    count, kept = len(quantization["tensors"]), quantization["taken_over"]
    text = f"Weights: {quantization['bits_per_weight']:.2f} bits each, "
    if kept == count:
        return f"{text}as the file has them, bit by bit"
    text += f"mean relative error {quantization['mean_error']:.4f}"
    return f"{text}; {kept} of {count} tensors are as the file has them" if kept else text


def lowering_line(manifest: dict[str, Any]) -> str:
    """Return that gradients are approximate, or ""."""
    lowering = manifest["lowering"]
    return f"Lowering: {lowering_label(lowering)}" if lowering in APPROXIMATE_LOWERINGS else ""


def left_out_line(manifest: dict[str, Any]) -> str:
    """Return what of the model is not text and not in the bundle, or ""."""
    parts = manifest["model"]["left_out"]
    if not parts:
        return ""
    return (
        f"The text part is taken; left out: {parts_text(parts)}. The adapter is named for the "
        f"whole model, where the layers are in {manifest['model']['text_module']}"
    )


def content_line(manifest: dict[str, Any]) -> str:
    """Return model and size of a bundle."""
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    return f"{manifest['model']['name']}, {size / 1e6:.1f} MB"
