"""Who does what a round asks: here the nodes that this machine reaches by itself."""

import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol

from toolkit.errors import ToolkitError
from toolkit.federation.node import Node
from toolkit.federation.orders import NodeFailed, NodeReport, Order, UnfitNode
from toolkit.federation.places import Places
from toolkit.federation.settings import FederationSettings
from toolkit.federation.shown import Shown

_GLANCE_SECONDS = 0.5

Answer = NodeReport | NodeFailed


class Fleet(Protocol):
    """The nodes of a federation, however they are reached."""

    def check(self) -> None:
        """Raise ToolkitError if the nodes are not fit for the first round."""

    def play(self, order: Order) -> Iterator[tuple[str, Answer]]:
        """Have all nodes do what a round asks; yield every node's name and answer, in an order that
        does not depend on who is fast. The adapter of a report is in the order's folder.
        """

    def size(self) -> int:
        """Return how many nodes there are now."""


class Lab:
    """Devices that this machine reaches, a thread each."""

    def __init__(
        self, settings: FederationSettings, id: str, bundle_sha256: str, shown: Shown
    ) -> None:
        """Prepare the nodes.

        Args:
            id: Of the federation; runs on the devices are named by it.
            bundle_sha256: What every node's bundle must be.
        """
        self._settings, self._shown = settings, shown
        self._stopping = threading.Event()
        places = Places(settings.at_once or max(1, len(settings.nodes)))
        self._nodes = [
            Node(
                settings=node,
                federation=settings,
                run=f"fed-{id}-{node.name}",
                bundle_sha256=bundle_sha256,
                cancelled=self._stopping.is_set,
                say=shown.say,
                places=places,
            )
            for node in settings.nodes
        ]

    def size(self) -> int:
        """Return how many nodes there are."""
        return len(self._nodes)

    def check(self) -> None:
        """Check all nodes at the same time.

        Raises:
            ToolkitError: There are none, one is not fit, or too few can be reached.
        """
        if not self._nodes:
            raise ToolkitError(
                "the federation has no nodes", "Write `nodes:` with a line `- device: SERIAL` each"
            )
        with self._working(self._settings.at_once) as pool:
            futures = {node.name: pool.submit(node.check) for node in self._nodes}
            _wait(set(futures.values()))
        errors = {name: future.exception() for name, future in futures.items()}
        unfit = [error for error in errors.values() if isinstance(error, UnfitNode)]
        if unfit:
            more = f" ({len(unfit) - 1} more are not fit)" if len(unfit) > 1 else ""
            raise ToolkitError(f"{unfit[0].cause}{more}", unfit[0].remedy)
        away = {name: error for name, error in errors.items() if error is not None}
        for name, error in away.items():
            if not isinstance(error, ToolkitError):
                raise error
            self._shown.failed(name, f"cannot be reached: {error.cause}")
        if len(self._nodes) - len(away) < self._settings.min_nodes:
            raise ToolkitError(
                f"{len(self._nodes) - len(away)} of {len(self._nodes)} nodes can be reached, and a "
                f"round counts with {self._settings.min_nodes}",
                "Connect more of them",
            )

    def play(self, order: Order) -> Iterator[tuple[str, Answer]]:
        """Yield the answers in the order of the nodes."""
        with self._working() as pool:  # a thread each, also for those that wait for a place
            futures = [pool.submit(node.play, order) for node in self._nodes]
            for node, future in zip(self._nodes, futures, strict=True):
                _wait({future})
                try:
                    yield node.name, future.result()
                except NodeFailed as error:
                    yield node.name, error
                except ArithmeticError as error:  # numbers that a device made up
                    yield node.name, NodeFailed(f"its trace makes no sense ({error})")

    @contextmanager
    def _working(self, threads: int = 0) -> Iterator[ThreadPoolExecutor]:
        """Yield threads for the nodes, which leave everything to itself when this one is ended."""
        pool = ThreadPoolExecutor(threads or max(1, len(self._nodes)))
        try:
            yield pool
        except BaseException:
            self._stopping.set()
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()


def _wait(futures: "set[Future[Any]]") -> None:
    """Wait for all of them; Ctrl-C is heard meanwhile."""
    while futures:
        _, futures = wait(futures, _GLANCE_SECONDS, FIRST_COMPLETED)
