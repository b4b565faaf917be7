"""Rounds over Flower; `federation.py` starts it in the environment that tools/check_flower makes.

    overhead CONFIG   a federation's file over a SuperLink and a SuperNode for each of its devices
    servers BUNDLE    many nodes: memory of the servers, bytes of a node

The servers are the real ones: Flower's SuperLink with a database, as docs/federation.md has it, and
our ServerApp, which it starts. Many nodes are threads of this process that speak Flower's protocol
as a SuperNode does and answer with numbers of their own. The peak is the sum of Pss over the
SuperLink and all processes below it, sampled every 0.2 s.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import threading
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from flwr.app import Message, RecordDict
from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import fleet_http_connection
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from tests.federation.flower.deployment import Deployment
from toolkit.federation.flower import records
from toolkit.federation.flower.project import write_project
from toolkit.federation.orders import NodeReport
from toolkit.federation.settings import FederationSettings, read_federation

ROUNDS = 2  # in the first, B is zeros, which Flower sends once
POLL_SECONDS = 3.0  # of a SuperNode
connected = fleet_http_connection.http_request_response


def leave(code: int, message: str | None = None, *_: Any, **__: Any) -> NoReturn:
    """Stand for `flwr_exit`, which would end all nodes, since they are threads of one process."""
    raise ConnectionError(f"it would have exited with {code}: {message}")


class Node(threading.Thread):
    """Answers queries and orders; counts the bytes of its last order, and what went wrong.

    A request that fails when it connects, or for messages, ends a SuperNode; like one under a
    service manager it is started again, with the same key.
    """

    def __init__(self, number: int, port: int, ended: threading.Event, turn: Any) -> None:
        super().__init__(daemon=True)
        self.number, self.port, self.ended, self.turn = number, port, ended, turn
        self.bytes = 0
        self.errors: list[str] = []

    def run(self) -> None:
        address, keys = f"127.0.0.1:{self.port}", generate_key_pairs()
        registered = False
        while not self.ended.is_set():
            why = "its connection ended"
            try:
                if not registered:
                    self.register(address, keys)
                registered = True
                with connected(address, True, authentication_keys=keys) as connection:
                    self.serve(connection)
            except Exception as error:
                why = f"{type(error).__name__} {error}"
                if not registered:  # it may be all the same: a key is taken once
                    keys = generate_key_pairs()
            if not self.ended.wait(POLL_SECONDS):
                self.errors.append(f"node {self.number}: {why}")

    def register(self, address: str, keys: Any) -> None:
        signed = NodeAuthHttpInterceptor(*keys)
        with FleetHttpClient.from_server_address(address, True, None, [signed]) as client:
            request = RegisterNodeFleetRequest(public_key=public_key_to_bytes(keys[1]))
            make_simple_http_retry_invoker().invoke(client.RegisterNode, request)

    def serve(self, connection: Any) -> None:
        _, receive, send, _, _, pull, push, confirm = connection
        while not self.ended.wait(POLL_SECONDS):
            received = receive()
            if received is None:
                continue
            with self.turn:
                try:
                    self.answer(*received, send, pull, push, confirm)
                except Exception as error:  # as a SuperNode does, which logs it and goes on
                    self.errors.append(f"node {self.number}: {type(error).__name__} {error}")

    def answer(self, message: Message, tree: Any, send, pull, push, confirm) -> None:
        run, id = message.metadata.run_id, message.metadata.message_id
        ids = [each.object_id for each in iterate_object_tree(tree)]
        contents = pull_objects(ids, pull_object_fn=lambda one: pull(run, one))
        self.bytes = sum(map(len, contents.values()))
        confirm(run, id)
        whole = inflate_object_from_contents(id, contents)
        kind = message.metadata.message_type
        reply = Message(self.content(whole.content, kind), reply_to=message)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        wanted, session = send(reply, get_object_tree(reply), 0.1)
        for object_id, value in get_all_nested_objects(reply).items():
            if object_id in wanted:
                data = value.deflate()
                self.bytes += len(data)
                push(run, session, object_id, data)

    def content(self, asked: RecordDict, kind: str) -> RecordDict:
        name = f"n{self.number:03d}"
        if kind == "query":
            said = {"name": name, "fit": True, "reached": True}
            return RecordDict({records.REPORT: records.json_record(said)})
        arrays = records.arrays_in(asked, records.layout_in(asked))
        draw = np.random.default_rng(self.number).standard_normal
        trained = {key: draw(values.shape, np.float32) for key, values in arrays.items()}
        report = NodeReport(name, 1, 1, labelled=100 + self.number, loss=1.0)
        return RecordDict({
            records.ARRAYS: records.array_record(trained),
            records.REPORT: records.json_record(report.to_json()),
        })  # fmt: skip


def pss(root: psutil.Process) -> int:
    """Return the Pss of a process and all below it, in bytes."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it has ended
            continue
    return total


def raised(log: str) -> dict[str, int]:
    """Return what tracebacks in a log end with, and how often each does."""
    ends, lines = [], log.split("\n")
    for number, line in enumerate(lines):
        head, found, _ = line.partition("Traceback (most recent call last):")
        if found:  # those in a group have a margin
            margin = re.sub(r"\+ Exception Group $", "| ", head) if head.startswith(" ") else ""
            rest = (each.removeprefix(margin) for each in lines[number + 1 :])
            ends.append(next((each[:300] for each in rest if each[:1].strip()), ""))
    return dict(Counter(ends))


def servers(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Carry out rounds, and return what they took."""
    settings = FederationSettings(
        bundle=str(options.path.absolute()),
        rounds=ROUNDS,
        min_nodes=options.nodes - options.nodes // 10,  # what failed is told, and memory measured
        at_once=options.at_once,
        evaluate="off",
        round_minutes=20.0,
    )
    write_project(settings, folder / "out", folder / "app")
    deployment = Deployment(folder / "flower", plain=True, database=not options.in_memory)
    ended, turn = threading.Event(), threading.Semaphore(options.together)
    peak = [0]
    try:
        deployment.start_superlink()
        members = [Node(n, deployment.port, ended, turn) for n in range(options.nodes)]
        for member in members:
            member.start()
        root = psutil.Process(deployment.processes["superlink"].pid)

        def sample() -> None:
            while not ended.wait(0.2):
                peak[0] = max(peak[0], pss(root))

        threading.Thread(target=sample, daemon=True).start()
        said = deployment.flwr("run", folder / "app", "it", "--stream", seconds=1500)
    finally:
        ended.set()
        deployment.stop()
    paths = [folder / f"out/rounds/{number:04d}/round.json" for number in range(1, ROUNDS + 1)]
    if not paths[-1].exists():
        log = deployment.log("superlink")
        raise SystemExit(f"{said}\n{log[-4000:]}\nthe SuperLink raised: {raised(log)}")
    rounds = [json.loads(path.read_text()) for path in paths]
    return {
        "nodes": options.nodes,
        "peak_mb": peak[0] / 1e6,
        "node_mb": max(member.bytes for member in members) / 1e6,
        "seconds": rounds[-1]["seconds"],
        "came": [len(record["nodes"]) for record in rounds],
        "failures": [record["failures"] for record in rounds],
        "errors": [error for member in members for error in member.errors],
        "http_500": deployment.log("superlink").count('HTTP/1.1" 500'),
        "raised": raised(deployment.log("superlink")),
    }


def overhead(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Carry a federation out over TLS, and return its rounds."""
    settings = read_federation(options.path)
    settings = replace(settings, min_nodes=len(settings.nodes))
    write_project(settings, folder / "out", folder / "app")
    deployment = Deployment(folder / "flower")
    try:
        deployment.start_superlink()
        for node in settings.nodes:
            deployment.make_key(node.name)
            deployment.start_supernode(node.name, Path(node.device))
        said = deployment.flwr("run", folder / "app", "it", "--stream", "-c", 'nodes=""')
    finally:
        deployment.stop()
    paths = [folder / f"out/rounds/{n:04d}/round.json" for n in range(1, settings.rounds + 1)]
    if not paths[-1].exists():
        raise SystemExit(f"{said}\n{deployment.log('superlink')[-4000:]}")
    return {"rounds": [json.loads(path.read_text()) for path in paths]}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    measures = {"overhead": overhead, "servers": servers}
    parser.add_argument("what", choices=measures)
    parser.add_argument("path", type=Path, help="bundle or file")
    parser.add_argument("--nodes", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--together", type=int, default=4, help="that answer (%(default)s)")
    parser.add_argument("--at-once", type=int, default=0, help="that are asked; 0: all")
    parser.add_argument("--in-memory", action="store_true", help="a SuperLink without --database")
    options = parser.parse_args()
    fleet_http_connection.flwr_exit = leave
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measures[options.what](options, Path(folder))), flush=True)


if __name__ == "__main__":
    code = 1
    try:
        main()
        code = 0
    except SystemExit as ended:  # by argparse, or with what went wrong
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # requests that the SuperLink left unanswered are tried for minutes
