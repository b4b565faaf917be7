"""A Grid without a network: messages go to the real ClientApp, in threads of this process."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from flwr.app import Context, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from toolkit.api.federating import conclude
from toolkit.federation.flower.client import app
from toolkit.federation.flower.fleet import GridFleet
from toolkit.federation.rounds import Federation
from toolkit.federation.shown import Shown


class DirectGrid(Grid):
    """Nodes by number, each with a configuration as `--node-config` gives it."""

    """`dead` nodes are told to be away, `deaf` ones never answer; a node that is in `connected` has
    connected then. `fails` is called with the name of every request and may raise, `before` it is
    carried out or after that.
    """

    def __init__(self, nodes: dict[int, dict[str, str]]) -> None:
        self.nodes = nodes
        self.dead: set[int] = set()
        self.deaf: set[int] = set()
        self.connected: dict[int, str] = {}
        self.fails: Callable[[str, bool], None] = lambda request, before: None
        self.under_way: dict[str, Future] = {}
        self._pool = ThreadPoolExecutor(2)

    def set_run(self, run):
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, *_, **__):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.nodes)

    def get_nodes(self):
        return [
            NodeInfo(node_id=node, last_activated_at=self.connected.get(node, "at first"))
            for node in self.nodes
        ]

    def push_messages(self, messages):
        ids = []
        self.fails("push", True)
        for number, message in enumerate(messages, len(self.under_way)):
            message.metadata.__dict__["_message_id"] = id = f"m{number}"
            deaf = message.metadata.dst_node_id in self.deaf
            self.under_way[id] = Future() if deaf else self._pool.submit(self._answer, message)
            ids.append(id)
        self.fails("push", False)
        return ids

    def _answer(self, message):
        node = message.metadata.dst_node_id
        if node in self.dead:
            return Message(Error(5, "the node is unavailable"), reply_to=message)
        message.metadata.__dict__["_dst_node_id"] = node
        return app(message, Context(1, node, self.nodes[node], RecordDict(), {}))

    def pull_messages(self, message_ids):
        replies = []
        self.fails("pull", True)
        for id in message_ids:
            future = self.under_way[id]
            if future is not None and future.done():
                self.under_way[id] = None
                replies.append(future.result())
        if replies:
            self.fails("pull", False)
        return replies

    def send_and_receive(self, messages, *, timeout=None):
        ids = self.push_messages(messages)
        return [self.under_way[id].result() for id in ids]


def carry_out(settings, grid, out, shown=None, *, resume=False, tensorboard=None):
    """Have the ServerApp's rounds over the nodes of a Grid."""

    def make(told):
        fleet = partial(GridFleet, grid)
        return Federation(settings, out, told, resume=resume, fleet=fleet)

    return conclude(make, out, shown or Shown(), resume=resume, tensorboard=tensorboard)
