"""`toolkit evaluate`: loss, or tasks done right, on a device, with and without an adapter."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from toolkit.choices import ARITHMETICS
from toolkit.cli.common import console, error_console, print_json, say, say_next
from toolkit.cli.options import AsJson, InArithmetic, OnDevice
from toolkit.cli.progress import Bar, count_columns
from toolkit.cli.transfers import transfer_bar
from toolkit.trace.units import number, plural

if TYPE_CHECKING:
    from toolkit.api.judging import Counting, EvaluationReport
    from toolkit.api.tasks import TasksReport


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder that `toolkit export` wrote.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder that `toolkit data` wrote: measure loss on it.")
    ] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="JSON Lines of choices to rank and replies to compare.")
    ] = None,
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
        int, typer.Option(min=0, help="Only so many samples or tasks from the start; 0 is all.")
    ] = 0,
    template: Annotated[
        bool | None,
        typer.Option(
            "--template/--no-template",
            help="Put prompts of tasks into chats by the model's template, or go on with their "
            "text.  [default: template]",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Cut a task's reply after so many tokens.  [default: 64]"),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="On the device; 0 leaves it to it.")] = 0,
    arithmetic: InArithmetic = ARITHMETICS[0],
    as_json: AsJson = False,
) -> None:
    """Measure loss and perplexity, or tasks done right, with and without an adapter.

    A line of a task file is {"prompt": "2 + 2 =", "choices": ["3", "4"], "answer": 1} (or the
    choice itself), or {"prompt": "Capital of France?", "answer": "Paris"} (or a list of what is
    right). A chat, "messages", may stand for the prompt, and an "id" comes back in --json. Choices
    are ranked by their log probability behind the prompt, as it is and divided by their bytes;
    replies are greedy, and compared to the letter and but for case and punctuation around them; a
    thought before one is left out. With --no-template a choice begins with its own space. Where an
    adapter has a chat template of its own, the model without it is asked by that one too.

    \b
    Examples:
      toolkit evaluate bundle --data data
      toolkit evaluate bundle --adapter runs/run1 --data data --device local
      toolkit evaluate bundle --adapter runs/run1 --data data --max-samples 20 --json
      toolkit evaluate bundle --adapter runs/run1 --tasks tasks.jsonl
    """
    if (data is None) == (tasks is None):
        raise typer.BadParameter("give one of --data and --tasks")
    if split not in (None, "train", "validation"):
        raise typer.BadParameter("--split is train or validation")
    if tasks is not None and split is not None:
        raise typer.BadParameter("--split is for --data")
    if data is not None and (template is not None or max_tokens is not None):
        raise typer.BadParameter("--template and --max-tokens are for --tasks")
    import toolkit

    options: dict[str, Any] = {"adapter": adapter, "device": device, "threads": threads}
    options |= {"max_samples": max_samples, "arithmetic": arithmetic, "bars": transfer_bar}
    report: EvaluationReport | TasksReport
    if tasks is None:
        assert data is not None
        options |= {"split": split, "counting": _counting("sequence")}
        report = toolkit.evaluate(bundle, data, **options)
    else:
        options |= {"plain": template is False, "counting": _counting("task")}
        options |= {} if max_tokens is None else {"max_tokens": max_tokens}
        report = toolkit.evaluate_tasks(bundle, tasks, **options)
    if as_json:
        print_json(report.to_json())
        return
    _print(report)
    if adapter is None:
        what = f"--data {data}" if tasks is None else f"--tasks {tasks}"
        again = {"split": split, "max-tokens": max_tokens, "max-samples": max_samples or None}
        what += "".join(f" --{name} {value}" for name, value in again.items() if value is not None)
        what += " --no-template" if template is False else ""
        what += "" if arithmetic == ARITHMETICS[0] else f" --arithmetic {arithmetic}"
        say_next(f"toolkit evaluate {bundle} {what} --device {device} --adapter runs/RUN")
    else:
        say_next(f"toolkit train --device {device} --steps 50 --adapter {adapter} --out NAME")


def _counting(unit: str) -> "Counting":
    """Return what shows how many of a unit are done."""

    @contextmanager
    def counting(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
        with _counted(unit, what, total) as count:
            yield count

    return counting


@contextmanager
def _counted(unit: str, what: str, total: int) -> Iterator[Callable[[int, int], None]]:
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
                say(f"{what}: {done} of {plural(total, unit)}")

        yield count


def _print(report: "EvaluationReport | TasksReport") -> None:
    from toolkit.api.tasks import TasksReport

    if isinstance(report, TasksReport):
        _print_tasks(report)
    else:
        _print_loss(report)


def _print_tasks(report: "TasksReport") -> None:
    table = Table(Path(report.tasks).name, box=None, pad_edge=False)
    table.add_column("without adapter", no_wrap=True)
    scores = [report.without_adapter]
    if report.with_adapter is not None:
        table.add_column("with it", no_wrap=True)
        scores.append(report.with_adapter)
    names = {
        "choices": ("choices: most probable", "choices: most probable for their bytes"),
        "replies": ("replies: the same", "replies: but for case and punctuation"),
    }
    for kind, (plain, normalized) in names.items():
        tallies = [getattr(score, kind) for score in scores]
        if tallies[0].tasks:
            table.add_row(plain, *(_share(t.correct, t.tasks) for t in tallies))
            table.add_row(normalized, *(_share(t.correct_normalized, t.tasks) for t in tallies))
    console.print(table)
    for name, score in zip(("without adapter", "with it"), scores, strict=False):
        if score.cut:
            say(
                f"{name}: {score.cut} of {score.replies.tasks} replies were cut at --max-tokens "
                f"{report.max_tokens} or where the context is full, and compared as they are"
            )
    if report.adapter is not None:
        console.print(f"adapter: {report.adapter}", highlight=False, markup=False, soft_wrap=True)
    if report.template == "adapter":
        say("all prompts were put into the adapter's own chat template")


def _share(correct: int, tasks: int) -> str:
    return f"{correct} of {tasks} ({100 * correct / tasks:.1f}%)"


def _print_loss(report: "EvaluationReport") -> None:
    table = Table(report.split, "loss", "perplexity", box=None, pad_edge=False)
    rows = [("without adapter", report.without_adapter)]
    if report.with_adapter is not None:
        rows.append((f"with {report.adapter}", report.with_adapter))
    for name, result in rows:
        table.add_row(name, f"{result.loss:.4f}", number(result.perplexity))
    console.print(table)
    result = report.without_adapter
    console.print(
        f"{result.tokens} labelled tokens in {plural(result.samples, 'sequence')}",
        highlight=False,
    )
