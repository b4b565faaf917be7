"""toolkit compare: what grew from one run to another."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import console, print_json

if TYPE_CHECKING:
    from toolkit.trace.comparison import RunComparison


def compare(
    first: Annotated[Path, typer.Argument(help="Run directory or trace file to compare with.")],
    second: Annotated[Path, typer.Argument(help="Run directory or trace file to judge.")],
    fail_above: Annotated[
        str | None,
        typer.Option(
            help="Exit with code 1 when the peak grew by more than this, e.g. 5%.",
            metavar="PERCENT",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Show what grew from one run to another, by category and phase, and which settings differ.

    With --fail-above it guards a memory budget in CI.

    \b
    Examples:
      toolkit compare runs/run1 runs/run2
      toolkit compare runs/accepted runs/new --fail-above 5%
      toolkit compare runs/run1 runs/run2 --json | jq .peak.ratio
    """
    limit = None if fail_above is None else _share(fail_above)
    from toolkit import compare as compare_runs
    from toolkit.trace.comparison_summary import print_comparison

    comparison = compare_runs(first, second)
    failed = limit is not None and comparison.exceeds(limit)
    if as_json:
        print_json({**comparison.to_json(), "fail_above": limit, "failed": failed})
    else:
        print_comparison(console, comparison)
        _verdict(comparison, limit, failed)
    if failed:
        raise typer.Exit(1)


def _verdict(comparison: "RunComparison", limit: float | None, failed: bool) -> None:
    if limit is None:
        return
    if not failed:
        text = f"The peak did not grow by more than {limit * 100:.4g} %."
    elif comparison.peak.ratio is None:
        text = "A peak is not known, so --fail-above fails."
    else:
        text = (
            f"The peak grew by {comparison.peak.ratio * 100:.1f} %, more than {limit * 100:.4g} %."
        )
    console.print()
    console.print(text, markup=False, highlight=False)


def _share(text: str) -> float:
    match = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*%?\s*", text)
    if match is None:
        raise typer.BadParameter(f"'{text}' is not a percentage such as 5%")
    return float(match[1]) / 100
