"""toolkit analyze: explain runs from their traces."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import console, error_console, print_json, say_next

if TYPE_CHECKING:
    from toolkit.trace.analysis import Analysis


def analyze(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="Run directories (with trace.jsonl inside) or trace files."
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print the analysis as JSON.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Report to write [default: report.html beside it]."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
    perfetto: Annotated[
        Path | None,
        typer.Option(
            help="Write a trace for ui.perfetto.dev too, with a process for every run.",
            metavar="FILE",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Memory the runs were to stay within, e.g. 100MB; exit code 1 above it.",
            metavar="SIZE",
        ),
    ] = None,
    table: Annotated[
        bool,
        typer.Option(
            "--table",
            help="Print the published figures with the runs, or all runs below RUN, beside them.",
        ),
    ] = False,
) -> None:
    """Explain where every megabyte and millisecond of a run went.

    Prints a summary and writes a self-contained HTML report for every run. The trace of a killed
    run is analyzed up to where it ends. With --budget it is a guard as `compare` is.

    \b
    Examples:
      toolkit analyze runs/run1
      toolkit analyze runs/run1 --open
      toolkit analyze runs/run1 runs/run2 --perfetto runs.pftrace
      toolkit analyze runs --table
      toolkit analyze runs/run1 --budget 100MB
      toolkit analyze runs/run1 --json | jq .peak.bytes
    """
    if table:
        _table(runs, json)
        return
    if len(runs) > 1 and output is not None:
        raise typer.BadParameter("-o names one report; several runs have one each")
    from toolkit import analyze as read_run
    from toolkit.planning.sizes import parse_size
    from toolkit.trace.report import write_report

    limit = None if budget is None else parse_size(budget)
    analyses = [read_run(run, budget=limit) for run in runs]
    reports = [
        write_report(analysis, output or analysis.trace.path.with_name("report.html"))
        for analysis in analyses
    ]
    if perfetto is not None:
        from toolkit.trace.perfetto import write_perfetto

        write_perfetto(analyses, perfetto)
    if json:
        found = [
            {**analysis.to_json(), "report": str(report)}
            for analysis, report in zip(analyses, reports, strict=True)
        ]
        print_json(found[0] if len(found) == 1 else found)
    else:
        _print(analyses, reports, perfetto)
        _say_next(runs)
    for report in reports if show else ():
        typer.launch(report.resolve().as_uri())
    if limit is not None and not all(_within(analysis, limit) for analysis in analyses):
        raise typer.Exit(1)


def _within(analysis: "Analysis", limit: int) -> bool:
    """Whether a run's peak is known and not above the limit; says so where it is not known."""
    if analysis.peak is None:
        error_console.print(
            f"{analysis.trace.path}: the peak is not known, so --budget fails", markup=False
        )
        return False
    return analysis.peak.bytes <= limit


def _print(analyses: "list[Analysis]", reports: list[Path], perfetto: Path | None) -> None:
    from toolkit.trace.summary import print_overview, print_summary

    if len(analyses) == 1:
        print_summary(console, analyses[0])
    else:
        print_overview(console, analyses)
    console.print()
    written = [("Report", report) for report in reports]
    written += [("Perfetto trace", perfetto)] if perfetto else []
    for what, path in written:
        console.print(f"{what}: {path}", markup=False, highlight=False, soft_wrap=True)


def _say_next(runs: list[Path]) -> None:
    """Name what follows: two runs are compared, one's adapter is evaluated."""
    if len(runs) > 1:
        say_next(f"toolkit compare {runs[0]} {runs[1]}")
    elif (runs[0] / "adapter_model.safetensors").is_file():
        say_next(f"toolkit evaluate BUNDLE --data DATA --adapter {runs[0]}")


def _table(runs: list[Path], json: bool) -> None:
    from toolkit.trace.published_table import (
        print_published,
        published_rows,
        read_runs,
        rows_to_json,
    )

    rows = published_rows(read_runs(runs))
    if json:
        print_json(rows_to_json(rows))
    else:
        print_published(console, rows)
