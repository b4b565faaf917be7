"""`toolkit verify`: gradients on a device against PyTorch, tensor by tensor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from toolkit.choices import ARITHMETICS
from toolkit.cli.common import console, error_console, print_json, say_next
from toolkit.cli.options import InArithmetic, OnDevice
from toolkit.cli.transfers import transfer_bar

if TYPE_CHECKING:
    from toolkit.api.devices import Bars
    from toolkit.device.transfer import Progress
    from toolkit.oracle.verification import Verification

_WORST = 5


def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder that `toolkit export` wrote.")],
    device: OnDevice = "local",
    data: Annotated[
        Path | None,
        typer.Option(help="Take samples of this data set instead of random tokens."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples of the step.")] = 4,
    seq_len: Annotated[
        int | None, typer.Option(min=1, help="Of random tokens. Default: the bundle's shortest.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random tokens and adapter.")] = 0,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest relative error that passes.", show_default="1e-4, in fixed16 3e-3"
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="On the device; 0 leaves it to it.")] = 0,
    arithmetic: InArithmetic = ARITHMETICS[0],
    as_json: Annotated[bool, typer.Option("--json", help="Print every tensor as JSON.")] = False,
) -> None:
    """Check a device's gradients against PyTorch, tensor by tensor.

    The device computes loss and LoRA gradients of one step; this machine computes the same with
    transformers and peft on the dequantized weights. An error is the norm of the difference over
    the norm of PyTorch's tensor. Without --data the samples are random tokens: full, padded,
    packed and with ignored labels. The adapter is a perturbed one, since B = 0 would make the
    gradient of A vanish. Exit code 1 if an error is above the tolerance. A gradient that float32
    cannot hold that well (a small difference of large terms) is compared with float64: it passes
    if it is at most four times as far off as PyTorch in float32, and within ten tolerances.
    Approximate gradients (a bundle lowered by approx-bp) are held to PyTorch's by the same rule;
    how far that is from the model's own gradients is said beside it. An element whose gate is
    within rounding of one of the rule's thresholds may have the slope of either side: compared
    with float64, a gradient may be off by twice what all of these change, too.

    \b
    Examples:
      toolkit verify bundle --device local
      toolkit verify bundle --data data --samples 2 --json
      toolkit verify bundle --device 192.168.1.20:5555 --seq-len 128 --samples 1
    """
    if data is not None and seq_len is not None:
        raise typer.BadParameter("--seq-len is for random tokens; --data has its own")
    import toolkit

    with _shown() as (say, bars):
        result = toolkit.verify(
            bundle,
            device=device,
            data=data,
            samples=samples,
            seq_len=seq_len,
            seed=seed,
            tolerance=tolerance,
            threads=threads,
            arithmetic=arithmetic,
            bars=bars,
            say=say,
        )
    if as_json:
        print_json(result.to_json())
    else:
        _print(result)
        if result.passed:
            say_next(f"toolkit deploy {bundle} --data DATA --device {device}")
    if not result.passed:
        if not as_json:
            worst = result.errors[0]
            error_console.print(
                f"error: {worst.name} is off by {worst.relative:.1e}, the loss by "
                f"{result.loss_error:.1e}, more than {result.tolerance:.1e}. Deploy the runtime "
                "again, and report it if it stays",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        raise typer.Exit(1)


@contextmanager
def _shown() -> "Iterator[tuple[Callable[[str], None], Bars]]":
    """Yield what shows that something is being done, and what shows transfers, one at a time."""
    status = error_console.status("")

    def say(line: str) -> None:
        status.update(line)
        status.start()

    @contextmanager
    def bars(what: str) -> "Iterator[Progress]":
        status.stop()
        with transfer_bar(what) as progress:
            yield progress

    try:
        yield say, bars
    finally:
        status.stop()


def _print(result: "Verification") -> None:
    table = Table("gradient", "tensors", "worst", "median", "worst in", box=None, pad_edge=False)
    for group, errors in result.groups().items():
        layer = errors[0].name.split(".")[1]
        middle = errors[len(errors) // 2].relative
        table.add_row(
            group, str(len(errors)), f"{errors[0].relative:.1e}", f"{middle:.1e}", f"layer {layer}"
        )
    console.print(table)
    console.print("worst tensors:", highlight=False)
    for error in result.errors[:_WORST]:
        own = result.rounding.get(error.name)
        note = "" if own is None else f"  (of float64; PyTorch in float32: {own:.1e})"
        console.print(f"  {error.relative:.1e}  {error.name}{note}", markup=False, highlight=False)
    console.print(
        f"loss {result.device_loss:.6f} on the device, {result.oracle_loss:.6f} in PyTorch: "
        f"off by {result.loss_error:.1e} over {result.tokens} tokens",
        highlight=False,
    )
    off = result.approximation
    if off is not None:
        console.print(
            "approximate gradients: compared with PyTorch's by the same rule, which are off by "
            f"{off.relative:.2f} from the model's (cosine {off.cosine:.3f})",
            highlight=False,
            soft_wrap=True,
        )
    if result.near is not None:
        console.print(
            f"{result.near.count} elements have gates within rounding of a threshold, of which "
            "gradients may be off by twice the effect",
            highlight=False,
            soft_wrap=True,
        )
    verdict = "passed" if result.passed else "FAILED"
    excused = sum(error.relative > result.tolerance for error in result.errors)
    note = f"; {excused} tensors judged by float64" if excused and result.passed else ""
    console.print(f"{verdict}: tolerance {result.tolerance:.0e}, relative{note}", highlight=False)
