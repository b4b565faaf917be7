"""Flower's ServerApp: the rounds of toolkit.federation over the nodes of a Grid.

Its run configuration is what toolkit.federation.flower.project writes.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from toolkit.api.federating import conclude
from toolkit.cli.federate import Lines
from toolkit.errors import ToolkitError
from toolkit.federation.flower.fleet import GridFleet
from toolkit.federation.flower.project import asked
from toolkit.federation.rounds import Federation

_LOCK_SECONDS = 60.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry a federation out."""
    settings, out, resume = asked(context.run_config)
    shown = Lines()
    fleet = partial(GridFleet, grid)
    with _alone(out):
        federation = Federation(settings, out, shown, resume=resume, fleet=fleet)
        conclude(federation, out)
    shown.say(f"adapter: {out}")


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other ServerApps from a folder: one can outlast a SuperLink that was killed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.parent / f".{out.name}.lock"
    end = time.monotonic() + _LOCK_SECONDS
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    file.seek(0)
                    raise ToolkitError(
                        f"process {file.read() or 'of somebody'} still writes {out}",
                        "End it, and start the run again",
                    ) from None
                time.sleep(0.5)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
