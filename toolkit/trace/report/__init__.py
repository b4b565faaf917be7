"""The report: one HTML file that needs no network, and no JavaScript for its words and tables."""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from toolkit import __version__
from toolkit.choices import lowering_label
from toolkit.errors import ToolkitError
from toolkit.files import atomic_file
from toolkit.trace import units
from toolkit.trace.analysis import Analysis
from toolkit.trace.analysis.memory import LABELS
from toolkit.trace.narrative import beside_published, headline, paragraphs
from toolkit.trace.report import content
from toolkit.trace.report.line_charts import device_charts, layer_charts, loss_curve, step_charts
from toolkit.trace.report.memory_charts import memory_of_peak_step, memory_over_time


def write_report(analysis: Analysis, path: str | Path) -> Path:
    """Write the report of a run to `path`, whole or not at all, and return the path.

    Raises:
        ToolkitError: The file cannot be written.
    """
    path = Path(path)
    html = render_report(analysis)
    try:
        with atomic_file(path, "w") as file:
            file.write(html)
    except OSError as error:
        raise ToolkitError(
            f"cannot write the report {path}: {error.strerror or error}",
            "Choose another place with -o",
        ) from error
    return path


def render_report(analysis: Analysis) -> str:
    """Return the report of a run as HTML."""
    charts: dict[str, Any] = {
        "memory": memory_over_time(analysis),
        "peak_step": memory_of_peak_step(analysis),
        "layers": layer_charts(analysis),
        "loss": loss_curve(analysis),
        "steps": step_charts(analysis),
        "device": device_charts(analysis),
    }
    every = [*charts["layers"], *charts["steps"], charts["memory"], charts["peak_step"]]
    hover = {c.key: c.hover for c in [*every, charts["loss"]] if c is not None and c.hover}
    script = _asset("report.js")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            analysis=analysis,
            charts=charts,
            hover=hover,
            headline=headline(analysis),
            paragraphs=paragraphs(analysis),
            beside=beside_published(analysis),
            tiles=content.tiles(analysis),
            shares=content.phase_shares(analysis),
            operators=content.operator_groups(analysis),
            kernel=content.kernel_rows(analysis),
            published=content.published_table(analysis),
            settings=content.settings(analysis),
            environment=content.environment(analysis),
            labels=LABELS,
            style=Markup(_asset("report.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            version=__version__,
        )
    )


def _asset(name: str) -> str:
    return files("toolkit.trace.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("toolkit.trace.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = ("megabytes", "duration", "percent", "count", "number", "plural", "unbroken")
    environment.filters.update({name: getattr(units, name) for name in formats})
    environment.filters["lowering_label"] = lowering_label
    return environment
