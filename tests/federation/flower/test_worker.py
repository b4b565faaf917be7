"""The nodes of the bench over Flower, and what it reads off its SuperLink's log."""

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from tests.support.processes import wait_for
from tools.bench import flower_worker


class Failing(BaseHTTPRequestHandler):
    """Fails the first request of every kind, and then does what asks for no content."""

    seen: ClassVar[Counter[str]] = Counter()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen[self.path] += 1
        self.send_response(500 if self.seen[self.path] == 1 else 200)
        self.send_header("Content-Length", "0")
        self.send_header("Content-Type", "application/protobuf")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Failing.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_node_that_cannot_register_or_connect_tries_again(server, monkeypatch):
    """Flower would end the process, and with it all other nodes."""
    monkeypatch.setattr(flower_worker, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(flower_worker.fleet_http_connection, "flwr_exit", flower_worker.leave)
    ended = threading.Event()
    node = flower_worker.Node(1, server.server_port, ended, threading.Semaphore(1))
    node.start()
    try:
        wait_for(lambda: any("pull-messages" in path for path in Failing.seen), 20)
    finally:
        ended.set()
        node.join(20)
    assert not node.is_alive()
    first, second, *_ = node.errors
    assert "500" in first and "it would have exited" in second


LOG = """INFO: up
Traceback (most recent call last):
  File "a.py", line 3, in f
    g()
ValueError: plain
  + Exception Group Traceback (most recent call last):
  |   File "b.py", line 4, in h
  |     k()
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "c.py", line 5, in m
    |     raise KeyError(3)
    | KeyError: 3
    +------------------------------------
INFO: on
"""


def test_what_a_log_says_was_raised_is_told_also_of_groups():
    assert flower_worker.raised(LOG) == {
        "ValueError: plain": 1,
        "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)": 1,
        "KeyError: 3": 1,
    }
