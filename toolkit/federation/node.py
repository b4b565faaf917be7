"""One device in a federation: checked before the first round, then a round after the other."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from toolkit.device import Device, DeviceLost, open_device, training
from toolkit.device.layout import Deployed, choose, list_deployed
from toolkit.device.runtime import check_version, find_runtime
from toolkit.errors import ToolkitError
from toolkit.federation.cooling import Cooling
from toolkit.federation.orders import Cancelled, NodeFailed, NodeReport, Order, UnfitNode
from toolkit.federation.places import Place, Places
from toolkit.federation.settings import FederationSettings, NodeSettings
from toolkit.federation.turn import Turn

_RETRY_SECONDS = 1.0


@dataclass
class Node:
    """A device and what is its own in a federation.

    Attributes:
        settings: Its name, device, bundle and data.
        federation: The settings of all.
        run: Name of its run on the device, or what the names of its rounds' runs begin with.
        bundle_sha256: What the bundle on it must be.
        cancelled: Whether to leave everything to itself.
        say: Called with lines for people.
        places: Of those that train at the same time; None: there is room for all.
        checked: Whether it has what the federation needs.
    """

    settings: NodeSettings
    federation: FederationSettings
    run: str
    bundle_sha256: str
    cancelled: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda line: None
    places: Places | None = None
    checked: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        return self.settings.name

    def check(self) -> None:
        """Check everything that a round relies on.

        Raises:
            UnfitNode: What the device has is not what the federation needs.
            ToolkitError: It cannot be reached.
        """
        with open_device(self.settings.device) as device:
            self._check(device)

    def _check(self, device: Device) -> None:
        try:
            check_version(device, find_runtime(device))
            bundle, data = self._bundle(device), choose(device, "data", self.settings.data)
            facts = training.check_pair(device, bundle, data)
            if not training.sequences_of(facts):
                raise ToolkitError(f"data {data.name!r} has nothing to train on", "Make it again")
        except DeviceLost:
            raise
        except ToolkitError as error:
            raise UnfitNode(f"node {self.name}: {error.cause}", error.remedy) from error
        self.checked = True

    def _bundle(self, device: Device) -> Deployed:
        """Return the bundle on the device whose content is the federation's."""
        named, same = self.settings.bundle, self.bundle_sha256
        there = list_deployed(device, "bundles")
        for item in there:
            if item.sha256 == same and named in (None, item.name):
                return item
        own = ", ".join(f"{item.name} ({item.sha256[:12]})" for item in there) or "none"
        raise ToolkitError(
            f"device {device.spec} lacks the federation's bundle ({same[:12]}; there: {own})",
            f"Run `toolkit deploy {self.federation.bundle} --device {device.spec}`",
        )

    def play(self, order: Order) -> NodeReport:
        """Do what a round asks, through lost connections up to its deadline.

        Returns:
            What was done; the adapter lies in the order's folder for replies.

        Raises:
            NodeFailed: It has no part in the round; with the reason.
            Cancelled: The federation ends.
        """
        place = Place(self.places, self._glance)
        place.take()
        report, begun = NodeReport(self.name), time.monotonic()
        deadline = begun + order.seconds
        cooling = Cooling(deadline, self._glance, self.say, report, place)
        try:
            while True:
                place.take()  # also after a cut while it cooled down
                try:
                    self._attempt(order, deadline, report, cooling)
                    report.seconds = time.monotonic() - begun
                    return report
                except DeviceLost as lost:
                    self._wait(deadline, lost)
                    report.lost += 1
        except ToolkitError as error:
            report.seconds = time.monotonic() - begun
            if isinstance(error, NodeFailed):
                error.spent = report
                raise
            failed = NodeFailed(error.cause, error.remedy)
            failed.spent = report
            raise failed from error
        finally:
            place.leave()

    def _wait(self, deadline: float, lost: DeviceLost) -> None:
        """Wait before another attempt, or give up."""
        if time.monotonic() + _RETRY_SECONDS > deadline:
            raise NodeFailed(f"lost: {lost.cause}")
        time.sleep(_RETRY_SECONDS)
        self._glance()

    def _told(self, line: str) -> None:
        self.say(f"{self.name}: {line}")

    def _glance(self) -> None:
        """Raise Cancelled if the federation ends."""
        if self.cancelled():
            raise Cancelled

    def _attempt(self, order: Order, deadline: float, report: NodeReport, cooling: Cooling) -> None:
        device = open_device(self.settings.device)
        try:
            device.connect()
        except DeviceLost:
            raise
        except ToolkitError as error:  # a phone that is away may come back
            raise DeviceLost(self.settings.device, error.cause) from error
        try:
            if not self.checked:
                self._check(device)
            bundle, data = self._bundle(device), choose(device, "data", self.settings.data)
            turn = Turn(
                device, self.federation, self.run, order, deadline, self._glance, self._told
            )
            turn.take(bundle, data, report, cooling)
        finally:
            report.sent_bytes += device.traffic.sent
            report.received_bytes += device.traffic.received
            device.close()
