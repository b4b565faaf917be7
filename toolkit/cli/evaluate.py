"""`toolkit evaluate`: loss and perplexity on a device, with and without an adapter."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from toolkit.cli.common import console, error_console, print_json, say, say_next
from toolkit.cli.progress import Bar, count_columns
from toolkit.cli.transfers import transfer_bar
from toolkit.errors import ToolkitError
from toolkit.trace.units import plural

if TYPE_CHECKING:
    from toolkit.bundle.bundle import Bundle


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder that `toolkit export` wrote.")],
    data: Annotated[Path, typer.Option(help="Folder that `toolkit data` wrote.")],
    adapter: Annotated[
        Path | None,
        typer.Option(help="Folder of a PEFT adapter, as `toolkit pull` brings it."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="local, a phone's SERIAL, or HOST:PORT.")
    ] = "local",
    split: Annotated[
        str | None,
        typer.Option(help="validation or train. Default: validation, if the data has it."),
    ] = None,
    max_samples: Annotated[
        int, typer.Option(min=0, help="Only so many samples from the start; 0 is all.")
    ] = 0,
    threads: Annotated[int, typer.Option(min=0, help="On the device; 0 leaves it to it.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure loss and perplexity on a device, with and without an adapter.

    \b
    Examples:
      toolkit evaluate bundle --data data
      toolkit evaluate bundle --adapter runs/run1 --data data --device local
      toolkit evaluate bundle --adapter runs/run1 --data data --max-samples 20 --json
    """
    from toolkit.bundle.bundle import Bundle
    from toolkit.device.contents import check_data

    opened = Bundle.open(bundle)
    part, file = _data_file(data, split)
    check_data(data, file.name, bundle)
    with tempfile.TemporaryDirectory() as folder:
        adapters = _adapters(opened, adapter, Path(folder))
        results = _evaluate(device, bundle, file, adapters, max_samples, threads)
    report = {"data": str(data), "split": part, "adapter": str(adapter) if adapter else None}
    report |= results
    if as_json:
        print_json(report)
        return
    _print(part, adapter, results)
    if adapter is None:
        say_next(f"toolkit evaluate {bundle} --data {data} --device {device} --adapter runs/RUN")
    else:
        say_next(f"toolkit train --device {device} --steps 50 --adapter {adapter} --out NAME")


def _data_file(data: Path, split: str | None) -> tuple[str, Path]:
    if split not in (None, "train", "validation"):
        raise typer.BadParameter("--split is train or validation")
    wanted = [split] if split else ["validation", "train"]
    for part in wanted:
        if (data / f"{part}.ptd").is_file():
            return part, data / f"{part}.ptd"
    raise ToolkitError(
        f"{data} has no {wanted[0]}.ptd", "Make data with `toolkit data FILE --tokenizer bundle`"
    )


def _adapters(bundle: "Bundle", adapter: Path | None, folder: Path) -> dict[str, Path]:
    from toolkit.bundle.adapter import write_peft_adapter
    from toolkit.lora import LoraSettings
    from toolkit.oracle.on_device import write_zero_adapter

    adapters = {"without_adapter": folder / "zero.ptd"}
    write_zero_adapter(bundle, adapters["without_adapter"])
    if adapter is not None:
        adapters["with_adapter"] = folder / "adapter.ptd"
        specs, lora = bundle.adapter.specs(), LoraSettings.from_json(bundle.manifest["lora"])
        write_peft_adapter(adapter, specs, lora, adapters["with_adapter"])
    return adapters


def _evaluate(
    device: str,
    bundle: Path,
    file: Path,
    adapters: dict[str, Path],
    max_samples: int,
    threads: int,
) -> dict[str, Any]:
    from toolkit.cli.verify import open_target
    from toolkit.data.dataset import count_rows
    from toolkit.oracle.on_device import device_evaluation, sent_inputs

    total = count_rows(file)
    total = min(total, max_samples) if max_samples else total
    with open_target(device, bundle, threads) as target:
        results = {}
        for name, path in adapters.items():
            what = name.replace("_", " ")
            with ExitStack() as sent:
                with transfer_bar(what) as sending:
                    folder = sent.enter_context(sent_inputs(target, file, path, sending))
                with _counting(what, total) as count:
                    results[name] = device_evaluation(target, folder, max_samples, count)
        return results


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


def _print(part: str, adapter: Path | None, results: dict[str, Any]) -> None:
    table = Table(part, "loss", "perplexity", box=None, pad_edge=False)
    names = {"without_adapter": "without adapter", "with_adapter": f"with {adapter}"}
    for key, result in results.items():
        table.add_row(names[key], f"{result['loss']:.4f}", f"{result['perplexity']:.2f}")
    console.print(table)
    result = next(iter(results.values()))
    console.print(
        f"{result['tokens']} labelled tokens in {plural(result['samples'], 'sequence')}",
        highlight=False,
    )
