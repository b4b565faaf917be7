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
from toolkit.federation.rounds import Federation
from toolkit.federation.shown import Shown

_LOCK_SECONDS = 60.0  # a ServerApp can outlast a SuperLink that was killed

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry a federation out."""
    given, shown = asked(context.run_config), Lines()
    fleet = partial(GridFleet, grid)

    def make(told: Shown) -> Federation:
        return Federation(given.settings, given.out, told, resume=given.resume, fleet=fleet)

    conclude(
        make,
        given.out,
        shown,
        resume=given.resume,
        tensorboard=given.tensorboard,
        lock_seconds=_LOCK_SECONDS,
    )
    shown.say(f"adapter: {given.out}")
