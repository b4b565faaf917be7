"""`toolkit replay`: the adapter of a zeroth-order run from its list of estimates."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from toolkit.cli.common import console, error_console, print_json
from toolkit.cli.progress import Bar
from toolkit.errors import ToolkitError


def replay(
    run: Annotated[Path, typer.Argument(help="Folder that `toolkit pull` wrote.")],
    bundle: Annotated[Path, typer.Option(help="The bundle that was trained.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write, in peft's format.")
    ],
    adapter: Annotated[
        Path | None,
        typer.Option(help="What the run started from, if not the bundle's own adapter."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=0, help="Of the run, from the first on. [default: all]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make the adapter of a run of mezo again, bit by bit.

    Such a run is its seed and a number or a few for every step (estimates.jsonl, some fifty bytes
    a step): the slopes of the loss along directions that follow from seed and step. With --steps
    the adapter is that of an earlier step. Where the run's folder holds the adapter of the same
    step the bits are compared; exit code 1 if they differ.

    \b
    Examples:
      toolkit replay runs/run1 --bundle bundle -o again
      toolkit replay runs/run1 --bundle bundle -o earlier --steps 500
    """
    import toolkit

    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=error_console, transient=True) as bar:
        task = bar.add_task("replaying", total=None)
        result = toolkit.replay(
            run,
            output,
            bundle=bundle,
            adapter=adapter,
            steps=steps,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        facts = {"path": str(result.path), "steps": result.steps}
        print_json({**facts, "same_as_run": result.same_as_run})
    else:
        same = "; the same bits as the run's own" if result.same_as_run else ""
        console.print(f"{result.path}: the adapter after {result.steps} steps{same}")
    if result.same_as_run is False:
        raise ToolkitError(
            f"the adapter in {run} has other bits than its list makes",
            "Pull the run again; the one that was made here is what the run computed",
        )
