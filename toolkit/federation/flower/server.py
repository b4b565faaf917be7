"""Flower's ServerApp: the rounds of toolkit.federation over the nodes of a Grid.

Its run configuration is what toolkit.federation.flower.project writes.
"""

from functools import partial

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from toolkit.api.federating import conclude
from toolkit.cli.federate import Lines
from toolkit.federation.flower.fleet import GridFleet
from toolkit.federation.flower.project import asked
from toolkit.federation.locking import alone
from toolkit.federation.rounds import Federation

_LOCK_SECONDS = 60.0  # a ServerApp can outlast a SuperLink that was killed

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry a federation out."""
    settings, out, resume = asked(context.run_config)
    shown = Lines()
    fleet = partial(GridFleet, grid)
    with alone(out, _LOCK_SECONDS):
        federation = Federation(settings, out, shown, resume=resume, fleet=fleet)
        conclude(federation, out)
    shown.say(f"adapter: {out}")
