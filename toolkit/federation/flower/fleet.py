"""The nodes that a Grid of Flower has, as a federation's fleet."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.errors import ToolkitError
from toolkit.federation.fleet import Answer
from toolkit.federation.flower import records, scalars
from toolkit.federation.flower.errands import MARGIN_SECONDS, Errand, Post, Unheard
from toolkit.federation.flower.patience import Patience
from toolkit.federation.flower.replies import kept
from toolkit.federation.orders import NodeFailed, NodeReport, Order, OtherName
from toolkit.federation.said import reason_of
from toolkit.federation.settings import NAME, FederationSettings
from toolkit.federation.shown import Shown

_POLL_SECONDS = 0.3
_QUERY_SECONDS = 180.0
_QUERY_EACH_SECONDS = 4.0  # simulated nodes, which the file names, answer one after the other
_ALIVE_SECONDS = 30.0  # in which a node that is there answers

_Send = Callable[[bool, list[int], float], list[Errand]]
"""Of a round's order, with or without the adapter."""


@dataclass
class GridFleet:
    """Nodes by name, in whose order answers are yielded. One that connects later joins the next
    round; one that went away is waited for a minute, and then told as lost until it, or another of
    its name, is back.

    Every answer is taken off the server as soon as it is there, one at a time, and waits for its
    turn on storage: memory does not grow with nodes.
    """

    grid: Grid
    settings: FederationSettings
    id: str
    bundle_sha256: str
    shown: Shown
    _nodes: dict[str, int] = field(default_factory=dict, init=False)
    _refused: dict[int, str] = field(default_factory=dict, init=False)
    """When a node had connected that is not asked again before it connects anew."""
    _since: dict[int, str] = field(default_factory=dict, init=False)
    """When a node had connected that said who it is: after another start it may be another."""
    _gone: set[str] = field(default_factory=set, init=False)
    """Who was lost in the last round: nobody waits for them again."""

    def __post_init__(self) -> None:
        self._post = Post(self.grid)
        self._layout: records.Layout = ()
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
        while (count := len(self._post.there())) < least:
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
        there = self._post.there()
        names = sorted(self._nodes)
        known = self._gone & self._nodes.keys()
        self._gone = {name for name in known if self._nodes[name] not in there}
        answers: dict[str, Answer] = {
            name: NodeFailed("lost: it is not connected") for name in self._gone
        }
        waiting = [name for name in names if name not in answers]
        send = partial(self._order, order, cache(partial(self._content, order)), Patience())
        at_once = self.settings.at_once or len(names)
        errands: dict[str, Errand] = {}
        for name in names:
            while name not in answers:
                self._send(send, waiting, at_once - len(errands), order, errands)
                begun = time.monotonic()
                if not self._look(send, errands, answers, order):
                    time.sleep(max(_POLL_SECONDS, time.monotonic() - begun))
            yield name, answers.pop(name)

    def _spares(self, order: Order, name: str) -> bool:
        """Whether a node can do without the adapter."""
        return self.settings.aggregate == "scalars" and scalars.spares(order, name)

    def _send(
        self,
        send: _Send,
        waiting: list[str],
        most: int,
        order: Order,
        errands: dict[str, Errand],
    ) -> None:
        """Send a round's order to some of those that wait for it."""
        given = waiting[: max(most, 0)]
        del waiting[: len(given)]
        seconds = order.seconds + MARGIN_SECONDS
        for spared in (False, True):
            names = [name for name in given if self._spares(order, name) == spared]
            if names:
                nodes = [self._nodes[name] for name in names]
                errands.update(zip(names, send(spared, nodes, seconds), strict=True))

    def _order(
        self,
        order: Order,
        content: Callable[[bool], RecordDict],
        patience: Patience,
        spared: bool,
        nodes: list[int],
        seconds: float,
    ) -> list[Errand]:
        question = records.question_of(order.round, self._terms)
        return self._post.send(
            content(spared),
            MessageType.TRAIN,
            nodes,
            seconds,
            patience=patience,
            question=question,
        )

    def _content(self, order: Order, spared: bool) -> RecordDict:
        if spared:
            config = records.order_record(order, self._terms)
            return RecordDict({scalars.KEY: scalars.record_of(order), records.CONFIG: config})
        path = order.adapter or Bundle.open(self.settings.bundle).adapter.path
        reader = FlatTensorReader(path)
        arrays = {name: reader.tensor(name).numpy() for name in reader}
        self._layout = records.layout_of(arrays)
        config = records.order_record(order, self._terms, self._layout)
        return RecordDict({
            records.ARRAYS: records.array_record(arrays), records.CONFIG: config
        })  # fmt: skip

    def _look(
        self,
        send: _Send,
        errands: dict[str, Errand],
        answers: dict[str, Answer],
        order: Order,
    ) -> bool:
        """Take what answers there are; whether there was one."""
        found = False
        for name, errand in list(errands.items()):
            reply = self._post.answer(errand)
            if reply is None:
                continue
            found = True
            del errands[name]
            if isinstance(reply, Unheard):
                self._gone.add(name)
            if isinstance(reply, Message) and scalars.lacks(errand.content, reply.content):
                left = max(errand.end - time.monotonic(), 0.0)
                [whole] = send(False, [errand.node], left)
                whole.begun, whole.received = errand.begun, errand.received
                whole.sent += errand.sent
                errands[name] = whole
                continue
            known = isinstance(reply, NodeFailed)
            answers[name] = answer = reply if known else kept(reply, name, order, self._layout)
            if isinstance(answer, NodeFailed):
                lasted = time.monotonic() - errand.begun
                report = answer.spent = answer.spent or NodeReport(name, seconds=lasted)
            else:
                report = answer
            report.down_bytes, report.up_bytes = errand.sent, errand.received  # as is known here
            if isinstance(answer, OtherName):
                del self._nodes[name]  # it is asked who it is before the next round
        return found

    def _meet(self) -> list[ToolkitError]:
        """Ask nodes that are new, or were started again, who they are; return what is wrong with
        those that do not fit.
        """
        there, unfit = self._post.there(), []
        before = {
            name: node
            for name, node in self._nodes.items()
            if node in there and self._since.get(node) != there[node] != self._refused.get(node)
        }
        for name in before:
            del self._nodes[name]
        known = set(self._nodes.values())
        new = [
            node
            for node, since in there.items()
            if node not in known and self._refused.get(node) != since
        ]
        seconds = _QUERY_SECONDS + _QUERY_EACH_SECONDS * len(new) * bool(self.settings.nodes)
        for node, reply in self._asked(new, seconds):
            if (error := self._join(node, reply, there)) is not None:
                unfit.append(error)
        for name, node in before.items():  # who gave no other name is asked for the round by it
            if node not in self._nodes.values():
                self._nodes.setdefault(name, node)
        return unfit

    def _asked(
        self, nodes: list[int], seconds: float
    ) -> Iterator[tuple[int, Message | NodeFailed]]:
        """Ask nodes who they are, and yield what they say as it comes."""
        content = RecordDict({records.CONFIG: records.config_record(0, self._terms)})
        asked = self._post.send(
            content, MessageType.QUERY, nodes, seconds, back=0.0, patience=Patience()
        )
        while asked:
            for errand in list(asked):
                if (reply := self._post.answer(errand)) is not None:
                    asked.remove(errand)
                    yield errand.node, reply
            if asked:
                time.sleep(_POLL_SECONDS)

    def _join(
        self, node: int, reply: Message | NodeFailed, there: dict[int, str]
    ) -> ToolkitError | None:
        """Take a node in, or return what is wrong with it."""
        if isinstance(reply, Unheard):  # one that was killed counts as connected for a minute
            self.shown.say(f"node {node} does not join: {reply.cause}")
            return None
        if isinstance(reply, NodeFailed):  # it is asked again
            return ToolkitError(f"node {node}: {reply.cause}", reply.remedy)
        try:
            said = records.said_in(reply.content, records.REPORT)
            name, fit = str(said["name"]), bool(said["fit"])
            why, remedy = (reason_of(str(said.get(key) or "")) for key in ("why", "remedy"))
        except Exception as error:  # the node wrote it
            self._refused[node] = there[node]
            return ToolkitError(f"node {node} does not say who it is ({error})")
        if not NAME.fullmatch(name):
            # It would name a folder here.
            self._refused[node] = there[node]
            return ToolkitError(f"node {node} has a name that cannot be one")
        if not fit:
            self._refused[node] = there[node]
            return ToolkitError(why, remedy)
        holder = self._nodes.get(name)
        if holder in there and self._answers(holder):  # it is asked again, the other may go
            return ToolkitError(
                f"two nodes are named {name!r}",
                "Give each its own name: --node-config 'name=\"N\"'",
            )
        if holder is not None and holder in there:  # killed a moment ago, this one is it again
            self._refused[holder] = there[holder]
        if not said.get("reached", True):
            self.shown.failed(name, f"cannot be reached: {why}")
        self._nodes[name], self._since[node] = node, there[node]
        return None

    def _answers(self, node: int) -> bool:
        """Whether a node that counts as connected is there."""
        replies = self._asked([node], _ALIVE_SECONDS)
        return not any(isinstance(reply, Unheard) for _, reply in replies)
