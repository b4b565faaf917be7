"""toolkit analyze: explain a run from its trace."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import console, print_json


def analyze(
    run: Annotated[
        Path, typer.Argument(help="Run directory (with trace.jsonl inside) or a trace file.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print the analysis as JSON.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Report to write [default: report.html beside it]."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:
    """Explain where every megabyte and millisecond of a run went.

    Prints a summary and writes a self-contained HTML report. The trace of a killed run is analyzed
    up to where it ends.

    \b
    Examples:
      toolkit analyze runs/run1
      toolkit analyze runs/run1 --open
      toolkit analyze runs/run1/trace.jsonl -o /tmp/report.html
      toolkit analyze runs/run1 --json | jq .peak.bytes
    """
    from toolkit.trace.analysis import read_analysis
    from toolkit.trace.report import write_report
    from toolkit.trace.summary import print_summary

    analysis = read_analysis(run)
    report = write_report(analysis, output or analysis.trace.path.with_name("report.html"))
    if json:
        print_json({**analysis.to_json(), "report": str(report)})
    else:
        print_summary(console, analysis)
        console.print()
        console.print(f"Report: {report}", markup=False, highlight=False, soft_wrap=True)
    if show:
        typer.launch(report.resolve().as_uri())
