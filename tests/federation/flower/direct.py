"""A Grid without a network: messages go to the real ClientApp, in threads of this process."""

from concurrent.futures import Future, ThreadPoolExecutor

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid

from toolkit.federation.flower.client import app


class DirectGrid(Grid):
    """Nodes by number, each with a configuration as `--node-config` gives it."""

    def __init__(self, nodes: dict[int, dict[str, str]]) -> None:
        self.nodes = nodes
        self.dead: set[int] = set()
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

    def push_messages(self, messages):
        ids = []
        for number, message in enumerate(messages, len(self.under_way)):
            message.metadata.__dict__["_message_id"] = id = f"m{number}"
            self.under_way[id] = self._pool.submit(self._answer, message)
            ids.append(id)
        return ids

    def _answer(self, message):
        node = message.metadata.dst_node_id
        if node in self.dead:
            return Message(Error(5, "the node is unavailable"), reply_to=message)
        message.metadata.__dict__["_dst_node_id"] = node
        return app(message, Context(1, node, self.nodes[node], RecordDict(), {}))

    def pull_messages(self, message_ids):
        replies = []
        for id in message_ids:
            future = self.under_way[id]
            if future is not None and future.done():
                self.under_way[id] = None
                replies.append(future.result())
        return replies

    def send_and_receive(self, messages, *, timeout=None):
        ids = self.push_messages(messages)
        return [self.under_way[id].result() for id in ids]
