"""One adapter from many devices, whose data stays on them."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.federation.rounds import Federation
    from toolkit.federation.settings import FederationSettings
    from toolkit.federation.shown import Shown


@dataclass(frozen=True)
class Federated:
    """What a federation came to.

    Attributes:
        path: Its folder; an adapter as peft, `generate` and `merge` read it.
        rounds: What every round came to, as in rounds/N/round.json: loss, nodes, failures.
        held_out: Loss on what the nodes hold out, before the first round and after every one; None
            where none was measured.
    """

    path: Path
    rounds: list[dict[str, Any]]
    held_out: list[float | None]


def federate(
    config: "str | PathLike[str] | FederationSettings",
    output: str | PathLike[str],
    *,
    resume: bool = False,
    shown: "Shown | None" = None,
    tensorboard: str | PathLike[str] | None = None,
) -> Federated:
    """Train one adapter on many devices that have bundle and data already.

    In every round each node gets the adapter, trains some steps on data that stays on it, and hands
    its adapter back; the mean of them is what the next round begins with. A node that is lost,
    late, hot, full or out of memory is left out of the round, with its reason.

    Args:
        config: A file (`toolkit federate --help` shows one), or settings.
        output: A folder that is new or empty, or with `resume` that of a federation.
        resume: Go on after the last round that was finished; what nodes did of a round that was
            not is not done again.
        shown: Told what happens.
        tensorboard: Show every round there, too: a folder for runs, with one of the output's name.

    Raises:
        ToolkitError: A node is not fit, or too few came through a round; with `resume` the same
            call goes on. Or another process writes the folder.

    Example:
        >>> result = toolkit.federate("lab.yaml", "runs/lab")  # doctest: +SKIP
    """
    from toolkit.federation.rounds import Federation
    from toolkit.federation.settings import FederationSettings, read_federation
    from toolkit.federation.shown import Shown

    settings = config if isinstance(config, FederationSettings) else read_federation(Path(config))

    def make(told: Shown) -> Federation:
        return Federation(settings, Path(output), told, resume=resume)

    board = None if tensorboard is None else str(tensorboard)
    return conclude(make, Path(output), shown or Shown(), resume=resume, tensorboard=board)


def conclude(
    make: "Callable[[Shown], Federation]",
    output: Path,
    shown: "Shown",
    *,
    resume: bool,
    tensorboard: str | None = None,
    lock_seconds: float = 0.0,
) -> Federated:
    """Carry a federation out: check its nodes, go through its rounds, and write its card.

    Args:
        make: Opens the federation, which is to tell what happens.
        output: Its folder; no other process may have it.
        shown: Told what happens.
        resume: Whether the federation goes on.
        tensorboard: A folder for runs, where every round is shown, too.
        lock_seconds: To wait for another process that ends.

    Raises:
        ToolkitError: As `federate`.
    """
    from toolkit.federation.card import held_out_after, write_card
    from toolkit.federation.locking import alone
    from toolkit.federation.tracked import Tracked
    from toolkit.tracking.feed import Feed
    from toolkit.tracking.flags import trackers_of

    feed = Feed(output.absolute().name, trackers_of({"tensorboard": tensorboard}))
    if not resume:
        feed.require_free()
    try:
        with alone(output, lock_seconds):
            federation = make(Tracked(shown, feed))
            feed.identity = lambda: federation.store.id
            try:
                federation.fleet.check()
            except BaseException:  # mended, the same command begins again
                if not resume:
                    federation.store.discard()
                raise
            federation.run()
            records, final = federation.store.records(), federation.store.final or {}
            write_card(output, federation.model, federation.settings, records, final)
            return Federated(output, records, held_out_after(records, final))
    finally:
        feed.close()
