"""Flower's ServerApp: the rounds of toolkit.federation over the nodes of a Grid.

Its run configuration is a federation's file (`toolkit federate --help`), with `out`, the folder to
write on the machine of the SuperLink, and `resume`. `nodes` is JSON, and of a simulation alone.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from toolkit.api.federating import conclude
from toolkit.cli.federate import Lines
from toolkit.errors import ToolkitError
from toolkit.federation.flower.fleet import GridFleet
from toolkit.federation.rounds import Federation
from toolkit.federation.settings import FederationSettings, federation_of

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry a federation out."""
    settings, out, resume = asked(context.run_config)
    shown = Lines()
    fleet = partial(GridFleet, grid)
    federation = Federation(settings, out, shown, resume=resume, fleet=fleet)
    conclude(federation, out)
    shown.say(f"adapter: {out}")


def asked(config: Mapping[str, Any]) -> tuple[FederationSettings, Path, bool]:
    """Return what a run configuration asks for: the federation, its folder, whether to go on.

    Raises:
        ToolkitError: A key is unknown or wrong.
    """
    content: dict[str, Any] = {}
    for key, value in config.items():
        inner = content
        *tables, last = key.split(".")
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[last] = value
    out, resume = content.pop("out", ""), content.pop("resume", False)
    if not out:
        raise ToolkitError("the run configuration has no `out`", "Name the folder to write")
    try:
        content["nodes"] = json.loads(content.get("nodes") or "[]")
    except ValueError as error:
        raise ToolkitError(f"`nodes` of the run configuration is no JSON ({error})") from error
    return federation_of(content, Path("run configuration")), Path(str(out)), bool(resume)
