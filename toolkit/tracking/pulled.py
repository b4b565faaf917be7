"""Trackers brought up to date by a run that was pulled."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.device.same_run import TRACE, identity_of
from toolkit.tracking.feed import Feed
from toolkit.tracking.tracker import Tracker

_KINDS = tuple(f'"type":"{kind}"'.encode() for kind in ("run", "step", "evaluation"))


def track_pulled(folder: Path, name: str, trackers: Sequence[Tracker]) -> None:
    """Give the run in a folder to trackers; those that have it already are left as they are.

    Args:
        folder: What `pull` brought.
        name: The run's, on its device.
        trackers: Where its steps are shown.

    Raises:
        ToolkitError: A place has another run's points, or cannot be written to.
    """
    feed = Feed(name, trackers)
    if not feed:
        return
    feed.identity = lambda: identity_of(folder).key
    for record in _records(folder / TRACE):
        feed.take(record)
    feed.close()


def _records(trace: Path) -> Iterator[Mapping[str, Any]]:
    """Yield what trackers use; other records, of which there are many more, are not parsed."""
    with trace.open("rb") as file:
        for line in file:
            if any(kind in line for kind in _KINDS):
                try:
                    yield json.loads(line)
                except ValueError:  # of a run that was killed while it wrote
                    continue
