"""`toolkit evaluate`: loss and perplexity on a device, with and without an adapter."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from toolkit.cli.common import console, error_console, print_json, say, say_next
from toolkit.cli.options import AsJson, OnDevice
from toolkit.cli.progress import Bar, count_columns
from toolkit.cli.transfers import transfer_bar
from toolkit.trace.units import plural

if TYPE_CHECKING:
    from toolkit.api.judging import EvaluationReport


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder that `toolkit export` wrote.")],
    data: Annotated[Path, typer.Option(help="Folder that `toolkit data` wrote.")],
    adapter: Annotated[
        Path | None,
        typer.Option(help="Folder of a PEFT adapter, as `toolkit pull` brings it."),
    ] = None,
    device: OnDevice = "local",
    split: Annotated[
        str | None,
        typer.Option(help="validation or train. Default: validation, if the data has it."),
    ] = None,
    max_samples: Annotated[
        int, typer.Option(min=0, help="Only so many samples from the start; 0 is all.")
    ] = 0,
    threads: Annotated[int, typer.Option(min=0, help="On the device; 0 leaves it to it.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure loss and perplexity on a device, with and without an adapter.

    \b
    Examples:
      toolkit evaluate bundle --data data
      toolkit evaluate bundle --adapter runs/run1 --data data --device local
      toolkit evaluate bundle --adapter runs/run1 --data data --max-samples 20 --json
    """
    if split not in (None, "train", "validation"):
        raise typer.BadParameter("--split is train or validation")
    import toolkit

    report = toolkit.evaluate(
        bundle,
        data,
        adapter=adapter,
        device=device,
        split=split,
        max_samples=max_samples,
        threads=threads,
        bars=transfer_bar,
        counting=_counting,
    )
    if as_json:
        print_json(report.to_json())
        return
    _print(report)
    if adapter is None:
        say_next(f"toolkit evaluate {bundle} --data {data} --device {device} --adapter runs/RUN")
    else:
        say_next(f"toolkit train --device {device} --steps 50 --adapter {adapter} --out NAME")


@contextmanager
def _counting(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Show a bar, or without a terminal a line for every tenth; yields what moves it."""
    shown = 0
    with Bar(*count_columns(), console=error_console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        lines = bar.disable

        def count(done: int, total: int) -> None:
            nonlocal shown
            bar.update(task, completed=done, total=total)
            tenth = 10 * done // total if total else 10
            if lines and tenth > shown:
                shown = tenth
                say(f"{what}: {done} of {plural(total, 'sequence')}")

        yield count


def _print(report: "EvaluationReport") -> None:
    table = Table(report.split, "loss", "perplexity", box=None, pad_edge=False)
    rows = [("without adapter", report.without_adapter)]
    if report.with_adapter is not None:
        rows.append((f"with {report.adapter}", report.with_adapter))
    for name, result in rows:
        table.add_row(name, f"{result.loss:.4f}", f"{result.perplexity:.2f}")
    console.print(table)
    result = report.without_adapter
    console.print(
        f"{result.tokens} labelled tokens in {plural(result.samples, 'sequence')}",
        highlight=False,
    )
