"""The nodes that a Grid of Flower has, as a federation's fleet."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid
from safetensors.numpy import save_file

from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.device.kept import ADAPTER
from toolkit.errors import ToolkitError
from toolkit.federation.fleet import Answer
from toolkit.federation.flower import records, scalars
from toolkit.federation.orders import NodeFailed, Order
from toolkit.federation.said import report_of
from toolkit.federation.settings import NAME, FederationSettings
from toolkit.federation.shown import Shown

_POLL_SECONDS = 0.3
_QUERY_SECONDS = 180.0
_MARGIN_SECONDS = 60.0  # for the way there and back: a node says itself that it is late
_AWAY = 5  # flwr's ErrorCode.NODE_UNAVAILABLE


@dataclass
class _Errand:
    """A message under way."""

    id: str
    end: float


@dataclass
class GridFleet:
    """Nodes by name, in whose order answers are yielded. One that connects later joins the next
    round; one that went away is told as lost until it, or another of its name, is back.

    Every answer is taken off the server as soon as it is there, one at a time, and waits for its
    turn on storage: memory does not grow with nodes.
    """

    grid: Grid
    settings: FederationSettings
    id: str
    bundle_sha256: str
    shown: Shown
    _nodes: dict[str, int] = field(default_factory=dict, init=False)
    _refused: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._terms = records.Terms(self.id, self.bundle_sha256, self.settings)

    def size(self) -> int:
        """Return how many nodes are known."""
        return len(self._nodes)

    def check(self) -> None:
        """Wait for as many nodes as a round needs, and check all that are there.

        Raises:
            ToolkitError: One is not fit, or too few came within the time of a round.
        """
        least, told = self.settings.min_nodes, -1
        end = time.monotonic() + 60 * self.settings.round_minutes
        while (count := len(list(self.grid.get_node_ids()))) < least:
            if count != told:
                self.shown.say(f"waiting for nodes: {count} of {least} are connected")
                told = count
            if time.monotonic() > end:
                raise ToolkitError(
                    f"{count} of {least} nodes connected within "
                    f"{self.settings.round_minutes:g} minutes",
                    "Start their SuperNodes",
                )
            time.sleep(_POLL_SECONDS)
        unfit = self._meet()
        if unfit:
            more = f" ({len(unfit) - 1} more are not fit)" if len(unfit) > 1 else ""
            raise ToolkitError(f"{unfit[0].cause}{more}", unfit[0].remedy)
        if len(self._nodes) < least:
            raise ToolkitError(
                f"{len(self._nodes)} nodes answered, and a round counts with {least}",
                "See the logs of their SuperNodes",
            )

    def play(self, order: Order) -> Iterator[tuple[str, Answer]]:
        """Yield the answers in the order of the nodes' names."""
        for error in self._meet():
            self.shown.say(f"a node does not join: {error.cause}")
        online = set(self.grid.get_node_ids())
        names = sorted(self._nodes)
        answers: dict[str, Answer] = {
            name: NodeFailed("lost: it is not connected")
            for name in names
            if self._nodes[name] not in online
        }
        waiting = [name for name in names if name not in answers]
        content = cache(partial(self._content, order))
        seconds = order.seconds + _MARGIN_SECONDS
        at_once = self.settings.at_once or len(names)
        errands: dict[str, _Errand] = {}
        for name in names:
            while name not in answers:
                while waiting and len(errands) < at_once:
                    given = waiting.pop(0)
                    fitting = content(self._spares(order, given))
                    errands[given] = self._send(fitting, MessageType.TRAIN, given, seconds)
                if not self._look(errands, answers, order):
                    time.sleep(_POLL_SECONDS)
            yield name, answers.pop(name)

    def _spares(self, order: Order, name: str) -> bool:
        """Whether a node can do without the adapter."""
        return self.settings.aggregate == "scalars" and scalars.spares(order, name)

    def _content(self, order: Order, spared: bool) -> RecordDict:
        if spared:
            config = records.config_record(order.round, self._terms, order.steps)
            return RecordDict({scalars.KEY: scalars.record_of(order), records.CONFIG: config})
        path = order.adapter or Bundle.open(self.settings.bundle).adapter.path
        reader = FlatTensorReader(path)
        arrays = {name: reader.tensor(name).numpy() for name in reader}
        return RecordDict({
            records.ARRAYS: records.array_record(arrays),
            records.CONFIG: records.config_record(order.round, self._terms, order.steps),
        })  # fmt: skip

    def _send(self, content: RecordDict, kind: str, name: str | int, seconds: float) -> _Errand:
        node = self._nodes[name] if isinstance(name, str) else name
        message = Message(content, node, kind, ttl=seconds)
        sent = list(self.grid.push_messages([message]))
        # Nobody there to take it: the answer of an unknown message is none until it is late.
        return _Errand(sent[0] if sent and sent[0] else "", time.monotonic() + seconds)

    def _look(self, errands: dict[str, _Errand], answers: dict[str, Answer], order: Order) -> bool:
        """Take what answers there are; whether there was one."""
        found = False
        for name, errand in list(errands.items()):
            reply = self._reply(errand)
            if reply is None:
                continue
            found = True
            del errands[name]
            answers[name] = reply if isinstance(reply, NodeFailed) else _kept(reply, name, order)
        return found

    def _reply(self, errand: _Errand) -> Message | NodeFailed | None:
        """Return an errand's answer, None while there is none."""
        if not errand.id:
            return NodeFailed("lost: the message could not be sent")
        for reply in self.grid.pull_messages([errand.id]):
            if not reply.has_error():
                return reply
            reason = str(reply.error.reason or "it gave no reason")
            return NodeFailed(f"lost: {reason}" if reply.error.code == _AWAY else reason)
        return NodeFailed("late: it did not answer") if time.monotonic() > errand.end else None

    def _meet(self) -> list[ToolkitError]:
        """Ask nodes that are new who they are; return what is wrong with those that do not fit."""
        online = set(self.grid.get_node_ids())
        new = online - set(self._nodes.values()) - self._refused
        config = records.config_record(0, self._terms)
        content = RecordDict({records.CONFIG: config})
        asked = {node: self._send(content, MessageType.QUERY, node, _QUERY_SECONDS) for node in new}
        unfit = []
        while asked:
            for node, errand in list(asked.items()):
                if (reply := self._reply(errand)) is None:
                    continue
                del asked[node]
                if (error := self._join(node, reply, online)) is not None:
                    if not isinstance(reply, NodeFailed):
                        self._refused.add(node)  # one that did not answer is asked again
                    unfit.append(error)
            if asked:
                time.sleep(_POLL_SECONDS)
        return unfit

    def _join(
        self, node: int, reply: Message | NodeFailed, online: set[int]
    ) -> ToolkitError | None:
        """Take a node in, or return what is wrong with it."""
        if isinstance(reply, NodeFailed):
            return ToolkitError(f"node {node}: {reply.cause}", reply.remedy)
        try:
            said = records.said_in(reply.content, records.REPORT)
            name, fit = str(said["name"]), bool(said["fit"])
        except (ToolkitError, KeyError) as error:
            return ToolkitError(f"node {node} does not say who it is ({error})")
        if not NAME.fullmatch(name):
            # It would name a folder here.
            return ToolkitError(f"node {node} has a name that cannot be one")
        if not fit:
            return ToolkitError(str(said.get("why")), str(said.get("remedy") or ""))
        if self._nodes.get(name) in online:
            return ToolkitError(
                f"two nodes are named {name!r}",
                "Give each its own name: --node-config 'name=\"N\"'",
            )
        if not said.get("reached", True):
            self.shown.failed(name, f"cannot be reached: {said.get('why')}")
        self._nodes[name] = node
        return None


def _kept(reply: Message, name: str, order: Order) -> Answer:
    """Put what a node trained on storage, and return its report."""
    try:
        report = report_of(records.said_in(reply.content, records.REPORT), name)
        if order.steps and report.scalars is None:
            arrays = records.arrays_in(reply.content)
            folder: Path = order.replies / name
            folder.mkdir(exist_ok=True)
            named = {PEFT_PREFIX + key: values for key, values in arrays.items()}
            save_file(named, folder / ADAPTER)
    except ToolkitError as error:
        return NodeFailed(error.cause)
    return report
